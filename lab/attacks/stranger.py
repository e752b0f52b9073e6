"""A client that keeps no rules: a socket of a loopback address of its own, and how it ended."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from earshot.lab.loadtest.wire import CLOSE, TEXT, client_frame
from earshot.protocol.messages import PROTOCOL, SUBPROTOCOL, Hello

CONNECT_S = 3.0
"""A stranger that is not let in by then gives up this connection."""
_LAST_BYTES = 256
"""The last frame of a server, a close with its reason, fits into so many bytes."""


@dataclass
class Outcome:
    """What an attacker did, and what became of it."""

    connects: int = 0
    """Connections that were tried."""
    opened: int = 0
    """Connections that the system made."""
    answered: int = 0
    """Requests to which an answer came."""
    ended: Counter[str] = field(default_factory=Counter)
    """Connections that the server ended, by close code, by HTTP status, or as `cut`."""
    sent_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "connects": self.connects,
            "opened": self.opened,
            "answered": self.answered,
            "ended": dict(self.ended),
            "sent_bytes": self.sent_bytes,
        }


class Stranger(asyncio.Protocol):
    """One connection. It reads everything and keeps only the first line and the last bytes."""

    def __init__(self, outcome: Outcome) -> None:
        loop = asyncio.get_running_loop()
        self._outcome = outcome
        self._first, self._last = b"", b""
        self._leaving = False
        self.answer: asyncio.Future[int] = loop.create_future()
        """HTTP status of the first answer; 0 if the server hung up without one."""
        self.gone = asyncio.Event()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- for the type only
        self.transport = transport
        self._outcome.opened += 1

    def data_received(self, data: bytes) -> None:
        if not self.answer.done():
            self._first = (self._first + data)[:64]
            if len(self._first) >= 12:
                self._outcome.answered += 1
                status = self._first[9:12]
                self.answer.set_result(int(status) if status.isdigit() else 0)
        self._last = (self._last + data[-_LAST_BYTES:])[-_LAST_BYTES:]

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set()
        if not self.answer.done():
            self.answer.set_result(0)
        if not self._leaving:
            self._outcome.ended[self._how()] += 1

    def _how(self) -> str:
        """Returns the code of the close frame that the connection ended with, or else what there
        is."""
        code = close_code(self._last)
        if code is not None:
            return str(code)
        status = self.answer.result()
        return f"http {status}" if status not in (0, 101) else "cut"

    @property
    def waiting_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def send(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self._outcome.sent_bytes += len(data)
            self.transport.write(data)

    def leave(self) -> None:
        """Cuts the connection; that does not count as ended by the server."""
        if not self.gone.is_set():
            self._leaving = True
            self.transport.abort()


def close_code(last: bytes) -> int | None:
    """Returns the code of a server's close frame at the end of `last`, None without one."""
    for at in range(max(len(last) - 127, 0), len(last) - 3):
        if last[at] == CLOSE and last[at + 1] == len(last) - at - 2:
            return int.from_bytes(last[at + 2 : at + 4], "big")
    return None


@dataclass
class Door:
    """The server that is attacked, and from where. All strangers of an attack share it."""

    host: str
    port: int
    source: str
    digest: str
    seconds: float
    scale: float
    """Part of the full scale of an attack, 0..1."""
    outcome: Outcome = field(default_factory=Outcome)
    strangers: list[Stranger] = field(default_factory=list)

    def count(self, full: int) -> int:
        """Returns a number of the attack's full scale at this scale."""
        return max(1, round(full * self.scale))

    def request(self, path: str = "/v1/rooms/stranger", headers: str = "", method: str = "GET") -> bytes:
        """Returns an upgrade request; `headers` are more lines, each with its end."""
        key = base64.b64encode(os.urandom(16)).decode()
        return (
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n{headers}\r\n"
        ).encode()

    async def connect(self, data: bytes = b"") -> Stranger | None:
        """Opens a connection and sends `data`; None if it was not let in."""
        self.outcome.connects += 1
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                _, stranger = await loop.create_connection(
                    lambda: Stranger(self.outcome), self.host, self.port, local_addr=(self.source, 0)
                )
        except (OSError, TimeoutError):
            self.outcome.ended["refused"] += 1
            return None
        self.strangers.append(stranger)
        if data:
            stranger.send(data)
        return stranger

    async def join(self, room: str, **options: Any) -> Stranger | None:
        """Opens a connection and says hello in a room; None if it was not let in."""
        stranger = await self.connect(self.request(f"/v1/rooms/{room}"))
        if stranger is None:
            return None
        status = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_S):
                status = await asyncio.shield(stranger.answer)
        if status != 101:
            stranger.leave()
            return None
        hello = Hello(protocol=PROTOCOL, model=self.digest, **options)
        stranger.send(client_frame(TEXT, hello.model_dump_json().encode()))
        return stranger
