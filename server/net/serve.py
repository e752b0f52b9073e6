"""The process of a server: its address, its files, its garbage collector, and the line that says it
is ready."""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI

from earshot.codec.errors import UsageError
from earshot.protocol.text import MAX_SHOWN, clean
from earshot.server.hub import Hub
from earshot.server.net.door import MAX_WAITING
from earshot.server.net.lan import address_for_others
from earshot.server.net.tls import Tls, server_tls
from earshot.server.net.transport.server import Server
from earshot.server.settings import Settings

log = logging.getLogger(__name__)

GIL_SWITCH_S = 0.0005
"""A worker between two steps of the engine may hold the interpreter for this long while the event
loop waits for it. Python's default, 5 ms, is a third of a frame; with less than this, switching
itself costs too much."""
BACKLOG = 1024
"""Connections that wait in the kernel until they are let in."""
OTHER_FILES = 256 + MAX_WAITING
"""Open files beside the connections: the model, libraries, pipes of the event loop, and connections
that wait to be let in."""


def make_server(
    app: FastAPI, settings: Settings, ready: Callable[[int], None] = lambda port: None, tls: Tls | None = None
) -> Server:
    """Returns a server of an application that `create_app` made, to `run(sockets=[listener])`. A
    second listener is the port for health and figures. The server calls `ready` with the port once
    it takes calls."""
    hub: Hub = app.state.hub

    def end_later() -> bool:
        if not settings.drain_s or hub.drain.on or not hub.rooms:
            return False
        hub.begin_drain(settings.drain_s)
        return True

    doors = (app.state.door, app.state.health_door)
    server = Server(app, settings, hub.shut_down, ready, *doors, end_later, tls.context if tls else None)
    hub.drain.end = server.end
    return server


def serve(app: FastAPI, settings: Settings, host: str, port: int, ready_file: Path | None = None) -> None:
    """Serves an application that `create_app` made until SIGTERM or Ctrl-C.

    Raises UsageError for an address that cannot be listened on, for a certificate that cannot be
    used, and for a ready file that cannot be written."""
    tls = server_tls(settings.tls, settings.tls_key)
    raise_file_limit(settings.max_connections)
    if ready_file is not None and not os.access(ready_file.parent, os.W_OK):
        raise UsageError(f"{ready_file.parent} is no folder that can be written to; choose another --ready-file")
    sockets = [bind(host, port)]
    if settings.health_port is not None:
        sockets.append(bind(host, settings.health_port))
    app.state.health_ports = {listener.getsockname()[1] for listener in sockets[1:]}
    model, digest = app.state.hub.config.name, app.state.hub.digest
    if not (app.state.hub.access.has_key or settings.open or is_loopback(host)):
        log.warning(
            "whoever reaches %s can enter every room: --tokens lets in only those whom you invite, "
            "--open says that this is meant",
            host,
        )

    def ready(port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        scheme = "wss" if tls else "ws"
        url = f"{scheme}://{shown}:{port}"
        if ready_file is not None:
            partial = ready_file.with_name(ready_file.name + ".part")
            partial.write_text(json.dumps({"url": url, "port": port, "model": model, "digest": digest}) + "\n", "utf-8")
            os.replace(partial, ready_file)
        # What is loaded by now stays. A full collection that walked over it would stop everyone's
        # sound for 0.2 s.
        gc.collect()
        gc.freeze()
        print(f"listening on {url} (model {clean(model, MAX_SHOWN)} {digest})", flush=True)
        if (friends := address_for_others(host)) is not None:
            print(f"others call {scheme}://{f'[{friends}]' if ':' in friends else friends}:{port}", flush=True)
        if tls:
            told = "earshot call takes it with --tls-fingerprint" if tls.self_signed else "its certificate is"
            print(f"{told} {tls.fingerprint}", flush=True)
        for health in sockets[1:]:
            print(f"health and figures at http://{shown}:{health.getsockname()[1]}", flush=True)

    sys.setswitchinterval(GIL_SWITCH_S)
    make_server(app, settings, ready, tls).run(sockets=sockets)


def is_loopback(host: str) -> bool:
    """Returns whether only this machine reaches a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def raise_file_limit(connections: int) -> None:
    """Lets this process open as many files as this many connections take, if the system allows it.

    Connections above the limit are refused with a reason, and above twice the limit they are cut
    (server/net/door.py). If the files ran out before that, nobody would get in."""
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
    """Returns a socket that listens. uvicorn would make one only when the workers are warm, and
    would log what went wrong instead of raising it.

    Raises UsageError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        both = host == "::" and socket.has_dualstack_ipv6()  # every address, that is those of IPv4 too
        return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (while")[0]  # Python repeats the address
        raise UsageError(f"cannot listen on {host} port {port}: {why}") from error
