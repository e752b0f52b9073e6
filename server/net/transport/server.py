"""The server: it takes connections in one by one, and ends those that it has before it stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import Any, cast

import uvicorn

from earshot.server.audit import Audit
from earshot.server.net.door import Door, new_door
from earshot.server.net.transport.http import HealthHttp, PatientHttp
from earshot.server.net.transport.websocket import MediaProtocol
from earshot.server.settings import Settings

log = logging.getLogger(__name__)

ACCEPTS_PER_TURN = 64
ACCEPT_PAUSE_S = 0.01
"""Time between two turns of accepting. Accepting is cheap; letting in is what is dear."""
Greeting = Callable[[], ssl.SSLContext]
"""Returns what a connection that begins now is greeted with."""
PROTOCOL_SIZE_FACTOR = 2
"""The WebSocket layer itself refuses a message of this many times `max_message_bytes`, before it
has read all of it. Shorter ones are refused by the application, with a code that says why."""


def protocol_classes(settings: Settings, door: Door) -> tuple[type[PatientHttp], type[MediaProtocol]]:
    """Returns the HTTP and the WebSocket protocol of a server with these settings."""
    http = type("BoundHttp", (PatientHttp,), {"door": door})
    media = type("BoundMedia", (MediaProtocol,), {"settings": settings, "door": door})
    return http, media


class StoppableServer(uvicorn.Server):
    """uvicorn's server, for which being stopped by a signal is success, and which lets connections
    in by a `Door`."""

    def __init__(self, config: uvicorn.Config, door: Door, ready: Callable[[int], None]) -> None:
        """Makes a server to `run(sockets=[listener])`. It calls `ready` with the port once it takes
        connections."""
        super().__init__(config)
        self._door, self._ready = door, ready
        self._doors: list[asyncio.Task[None]] = []
        self._greeting: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal that stopped it once more, but it has been obeyed by then.
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        if self.started and sockets:
            self._open_doors(sockets)
            self._ready(sockets[0].getsockname()[1])

    def _open_doors(self, sockets: list[socket.socket]) -> None:
        for listener in sockets:
            self._open_door(listener, self._door, cast(type[PatientHttp], self.config.http_protocol_class))

    def _open_door(
        self, listener: socket.socket, door: Door, http: type[PatientHttp], tls: Greeting | None = None
    ) -> None:
        listener.setblocking(False)
        self._doors += [
            asyncio.create_task(self._accept(listener, door)),
            asyncio.create_task(self._let_in(door, http, tls)),
        ]

    async def _accept(self, listener: socket.socket, door: Door) -> None:
        """Takes new connections from the kernel, where all of them wait in one queue, to the queue
        of their address."""
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(OSError):  # too many files are open, or the peer is gone already
                connection, address = await loop.sock_accept(listener)
                door.knock(address[0], connection)
                for _ in range(ACCEPTS_PER_TURN):
                    connection, address = listener.accept()  # BlockingIOError where none is left
                    connection.setblocking(False)
                    door.knock(address[0], connection)
            await asyncio.sleep(ACCEPT_PAUSE_S)

    async def _let_in(self, door: Door, http: type[PatientHttp], tls: Greeting | None) -> None:
        """Takes new connections in one by one, so that those who talk do not notice a crowd."""
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.Protocol:
            return cast(asyncio.Protocol, http(self.config, self.server_state, self.lifespan.state))

        while True:
            connection = await door.next()
            if tls is not None:  # a handshake takes as long as its client likes
                greeting = loop.create_task(self._greet(door, protocol, connection, tls))
                self._greeting.add(greeting)
                greeting.add_done_callback(self._greeting.discard)
            else:
                await self._connect(protocol, connection)
            await asyncio.sleep(door.limits.interval_s)

    async def _greet(
        self, door: Door, protocol: Callable[[], asyncio.Protocol], connection: socket.socket, tls: Greeting
    ) -> None:
        """Lets in a connection that has to prove that it speaks TLS; meanwhile it is half made."""
        try:
            visit = door.visit(connection.getpeername()[0])
        except OSError:
            connection.close()
            return
        try:
            await self._connect(protocol, connection, ssl=tls(), ssl_handshake_timeout=door.limits.head_s)
        finally:
            visit.leave()

    async def _connect(self, protocol: Callable[[], asyncio.Protocol], connection: socket.socket, **tls: Any) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection, **tls)
        except OSError:
            connection.close()  # the peer is gone already, or speaks no TLS
        except Exception:
            log.exception("a connection could not be let in")
            connection.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in (*self._doors, *self._greeting):
            task.cancel()
        self._door.close()
        await super().shutdown(sockets)


class Server(StoppableServer):
    """A server of `MediaProtocol`. It takes new connections one by one, and ends those that it has
    before it stops."""

    def __init__(
        self,
        app: Callable[..., Any],
        settings: Settings,
        before_close: Callable[[], Awaitable[None]],
        ready: Callable[[int], None],
        door: Door | None = None,
        health: Door | None = None,
        end_later: Callable[[], bool] = lambda: False,
        tls: Greeting | None = None,
    ) -> None:
        """Makes a server to `run(sockets=[listener])`. It calls `ready` with the port once it takes
        connections; it awaits `before_close`, which may still send, before it closes them. A second
        socket is the port for health and figures, which has a door of its own. Doors that are not
        given are made by the settings. On SIGTERM `end_later` is called on the event loop; where it
        returns True, `end` will be called when it is time. With `tls` all speak TLS at the first
        socket."""
        audit = Audit(settings.audit_lines_per_second)
        door = door or new_door(settings, audit)
        http, media = protocol_classes(settings, door)
        config = uvicorn.Config(
            app,
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
        super().__init__(config, door, ready)
        self._settings = settings
        self._before_close = before_close
        self._end_later, self._tls = end_later, tls
        self._loop: asyncio.AbstractEventLoop | None = None
        self._health = health or new_door(settings, audit)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        loop = self._loop
        if sig != signal.SIGTERM or loop is None or self.should_exit:
            super().handle_exit(sig, frame)
        else:
            loop.call_soon_threadsafe(self._obey)

    def _obey(self) -> None:
        if not self._end_later():
            self.end()

    def end(self) -> None:
        """Ends the server now."""
        self.should_exit = True

    def _open_doors(self, sockets: list[socket.socket]) -> None:
        self._loop = asyncio.get_running_loop()
        self._open_door(sockets[0], self._door, cast(type[PatientHttp], self.config.http_protocol_class), self._tls)
        for listener in sockets[1:]:
            self._open_door(listener, self._health, type("BoundHealth", (HealthHttp,), {"door": self._health}))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for door in self._doors:
            door.cancel()
        self._health.close()
        await self._before_close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.close_timeout_s):
                while self._media():  # noqa: ASYNC110 -- uvicorn tells nobody when a connection is gone
                    await asyncio.sleep(0.02)
        for protocol in self._media():
            protocol.transport.abort()
        await super().shutdown(sockets)

    def _media(self) -> list[MediaProtocol]:
        return [protocol for protocol in self.server_state.connections if isinstance(protocol, MediaProtocol)]
