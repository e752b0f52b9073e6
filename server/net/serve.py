"""Runs the application under uvicorn, with our protocols, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import uvicorn
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.server.app import create_app
from earshot.server.core.packet_coding import StartEntropy, no_entropy
from earshot.server.net.transport import PROTOCOL_SIZE_FACTOR, MediaProtocol, PatientHttp, protocol_classes
from earshot.server.settings import Settings

log = logging.getLogger(__name__)

GIL_SWITCH_S = 0.0005
"""A worker between two torch calls holds the interpreter for up to this long while the event loop
waits for it. The default, 5 ms, is a third of a frame; shorter than this, switching itself
costs."""
BACKLOG = 1024
"""Connections that wait in the kernel until they are let in."""
OTHER_FILES = 256
"""Open files that are no connections: the model, libraries, pipes of the event loop."""


class Server(uvicorn.Server):
    """uvicorn's server, which tells peers before it closes, and for which being stopped is
    success."""

    def __init__(
        self, config: uvicorn.Config, http: type[PatientHttp], settings: Settings, ready: Callable[[int], None]
    ) -> None:
        super().__init__(config)
        self._http = http
        self._settings = settings
        self._ready = ready
        self._doors: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        if self.started and sockets:
            self._doors = [asyncio.create_task(self._let_in(listener)) for listener in sockets]
            self._ready(sockets[0].getsockname()[1])

    async def _let_in(self, listener: socket.socket) -> None:
        """Takes new connections one by one; a crowd waits in the kernel and is not felt by those
        who talk."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)

        def protocol() -> asyncio.Protocol:
            return cast(asyncio.Protocol, self._http(self.config, self.server_state, self.lifespan.state))

        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
                await loop.connect_accepted_socket(protocol, connection)
            except OSError:
                pass  # without files for more, or with one that is gone already, the next try may go better
            except Exception:
                log.exception("a connection could not be let in")
            await asyncio.sleep(self._settings.accept_interval_ms / 1000)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for door in self._doors:
            door.cancel()
        await self.config.app.state.hub.shut_down()  # type: ignore[union-attr]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.close_timeout_s):
                while self._media():  # noqa: ASYNC110 -- uvicorn tells nobody when a connection is gone
                    await asyncio.sleep(0.02)
        for protocol in self._media():
            protocol.transport.abort()
        await super().shutdown(sockets)

    def _media(self) -> list[MediaProtocol]:
        return [protocol for protocol in self.server_state.connections if isinstance(protocol, MediaProtocol)]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal that stopped it once more at the end; it has been obeyed by
        # then.
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def make_server(
    model: Model,
    settings: Settings,
    ready: Callable[[int], None] = lambda port: None,
    entropy: StartEntropy = no_entropy,
) -> Server:
    """A server to `run(sockets=[listener])`; it calls `ready` with the port once it takes calls."""
    http, media = protocol_classes(settings)
    config = uvicorn.Config(
        create_app(model, settings, entropy=entropy),
        http=http,
        ws=media,
        ws_max_size=settings.max_message_bytes * PROTOCOL_SIZE_FACTOR,
        ws_per_message_deflate=False,
        ws_ping_interval=settings.ping_interval_s,
        ws_ping_timeout=settings.ping_timeout_s,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_s)),
        lifespan="on",
        access_log=False,
        log_level="warning",
    )
    return Server(config, http, settings, ready)


def serve(
    model: Model,
    settings: Settings,
    host: str,
    port: int,
    ready_file: Path | None = None,
    entropy: StartEntropy = no_entropy,
) -> None:
    """Serves until SIGTERM or Ctrl-C. Raises UsageError if the address or the ready file cannot be
    had."""
    raise_file_limit(settings.max_connections)
    if ready_file is not None and not os.access(ready_file.parent, os.W_OK):
        raise UsageError(f"{ready_file.parent} is no folder that can be written to; choose another --ready-file")
    listener = bind(host, port)

    def ready(port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        url = f"ws://{shown}:{port}"
        if ready_file is not None:
            partial = ready_file.with_name(ready_file.name + ".part")
            partial.write_text(
                json.dumps({"url": url, "port": port, "model": model.name, "digest": model.digest}) + "\n"
            )
            os.replace(partial, ready_file)
        # What is loaded by now stays: a full collection that walks over it would stop everyone's
        # sound for 0.2 s.
        gc.collect()
        gc.freeze()
        print(f"listening on {url} (model {model.name} {model.digest})", flush=True)

    sys.setswitchinterval(GIL_SWITCH_S)
    make_server(model, settings, ready, entropy).run(sockets=[listener])


def raise_file_limit(connections: int) -> None:
    """Lets this process open as many files as so many connections take, if the system lets it. Ours
    are refused with a reason, or at twice their number cut (server/net/transport.py); where files
    run out before that, nobody gets in."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens; uvicorn would bind one only when the workers are warm, and log what
    went wrong."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise UsageError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
