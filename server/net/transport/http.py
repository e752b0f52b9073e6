"""HTTP in front of the rooms, with a deadline for each of its moments."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, ClassVar, cast
from weakref import WeakMethod

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from earshot.server.net.asgi_extensions import PROGRESS
from earshot.server.net.door import Door, Visit
from earshot.server.net.transport.websocket import MediaProtocol

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 1 << 15
"""Bytes of an HTTP request at most, whatever follows it included: no request here has a body."""
MAX_HEADERS = 100
MAX_LINE_BYTES = 8000
"""The path of a request and each of its headers have fewer bytes than that. websockets, which gets
the same head, stops at 128 headers and 8192 bytes, and then answers nothing."""


class PatientHttp(HttpToolsProtocol):
    """HTTP in front of the WebSocket, with a deadline at each moment: for the head of a request,
    for its body, for the answer, and for the next request. A head has `MAX_HEAD_BYTES` at most.
    What passes one of these bounds is cut and counted."""

    door: ClassVar[Door]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._host = self.client[0] if self.client else ""
        self._visit: Visit | None = self.door.visit(self._host)
        self._head_bytes = self._url_bytes = self._headers = 0
        self._too_large = False
        self._body_is_due = False
        self._deadline: asyncio.TimerHandle | None = None
        self._offered = {PROGRESS: _weakly(self._take_progress)}
        self._expect("head_too_slow", self.door.limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._visit is not None:
            self._visit.leave()
        super().connection_lost(exc)

    def _expect(self, reason: str, within_s: float) -> None:
        """Sets the deadline; `reason` counts connections that miss it."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(within_s, self._cut, reason)

    def _cut(self, reason: str) -> None:
        self.door.refuse(self._host, reason)
        self.transport.abort()

    def _take_progress(self) -> None:
        if not self._body_is_due:
            self._expect("answer_too_slow", self.door.limits.answer_s)

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._cut("head_too_large")
            return
        super().data_received(data)

    def handle_websocket_upgrade(self) -> None:
        if self._visit is not None:
            self._visit.begin()
        try:
            super().handle_websocket_upgrade()
        except Exception:
            log.exception("a WebSocket could not begin")
            self.connections.difference_update(
                [other for other in self.connections if other is not self and other.transport is self.transport]
            )
            self._cut("bad_handshake")
            return
        if self._deadline is not None:
            self._deadline.cancel()
        media = cast(MediaProtocol, self.transport.get_protocol())
        media.visit, self._visit = self._visit, None
        media.check_handshake()
        self.parser = None  # type: ignore[assignment]  # it refers back to this connection: a cycle

    def send_400_response(self, msg: str) -> None:
        """Answers a request that is none, or one that is too large."""
        if not self._too_large:
            super().send_400_response(msg)
            return
        self.door.refuse(self._host, "head_too_large")
        head = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        self.transport.write(head)
        self.transport.close()

    def _check_size(self, size: int) -> None:
        """Ends the parsing of a head that is too large; uvicorn then asks for the answer."""
        if size > MAX_LINE_BYTES or self._headers > MAX_HEADERS:
            self._too_large = True
            raise ValueError("the head of a request is too large")

    def on_message_begin(self) -> None:
        self._url_bytes = self._headers = 0
        self._expect("head_too_slow", self.door.limits.head_s)
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["extensions"] = self._offered

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._url_bytes += len(url)
        self._check_size(self._url_bytes)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._headers += 1
        self._check_size(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        self._body_is_due = True
        self._expect("body_too_slow", self.door.limits.body_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._body_is_due = False
        self._expect("answer_too_slow", self.door.limits.answer_s)
        if self._visit is not None:
            self._visit.brought()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._body_is_due or self.transport.is_closing():
            return  # the deadline that is set stays
        self._expect("head_too_slow", self.door.limits.head_s)
        if self._visit is not None:
            self._visit.begin()


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Returns a function that calls a method while its object is there, and keeps no object alive:
    that would be a cycle."""
    reference = WeakMethod(method)

    def call() -> None:
        if (alive := reference()) is not None:
            alive()

    return call


class HealthHttp(PatientHttp):
    """HTTP of the port for health and figures, which opens no WebSocket."""

    def handle_websocket_upgrade(self) -> None:
        self._cut("bad_handshake")
