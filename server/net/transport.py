"""uvicorn's protocols with bounds: small buffers, so that what waits has an age that we know; ends
that cannot hang."""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio.transports import BaseTransport
from collections.abc import Callable
from typing import Any, ClassVar, cast

from earshot.protocol.close_codes import CloseCode
from earshot.protocol.messages import Error
from earshot.server.net.asgi_extensions import CLOSE_REASON_BYTES, LAST_WORDS, SHORT_CUT
from earshot.server.settings import Settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import Close, Frame, Opcode

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

READ_SLICE = 2048
"""A read may hold tens of thousands of empty messages; between slices of so many bytes it is seen
that they pile up."""
MAX_FRAGMENTS = 64
MAX_HEAD_BYTES = 1 << 16
"""Of an HTTP request, and of whatever follows it: nothing here takes a body."""
PROTOCOL_SIZE_FACTOR = 2
"""The WebSocket layer itself stops at so many times `max_message_bytes`, before it has read all of
a message."""
SHORT_CUTS = 8
"""Messages of one read that take the short cut; what else came with them waits its turn, so that
nobody takes all."""
_BINARY, _MASKED, _LENGTH_16, _LENGTH_64, _KEY_BYTES = 0x82, 0x80, 126, 127, 4
_SHORT_HEAD, _LONG_HEAD = struct.Struct(">BB"), struct.Struct(">BBH")


class MediaProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose peer may be slow, dead or hostile.

    `send` waits while more than `write_high_water_bytes` wait for the kernel, and the kernel holds
    little that is not yet on its way (TCP_NOTSENT_LOWAT): the rest waits in the send queue, which
    knows how old it is."""

    settings: ClassVar[Settings]

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.close_timeout = self.settings.close_timeout_s
        self._unbounded = False
        self._dead = False
        self._cut: asyncio.TimerHandle | None = None
        self._upgraded = False
        self._head = b""
        self._owed = 0
        self.media: Callable[[bytes], None] | None = None
        self.transport.set_write_buffer_limits(high=self.settings.write_high_water_bytes)
        sock = self.transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.settings.socket_send_buffer_bytes)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, self.settings.write_high_water_bytes)

    def connection_lost(self, exc: Exception | None) -> None:
        self._dead = True
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Whole binary messages go straight to `media` while nothing waits before them; a task, a
        queue and a pause of the socket for each would cost several times what is done with them.
        All else takes uvicorn's way."""
        if not self._upgraded:
            self._upgraded = True  # this is the request
            self._long_way(data)
            return
        data = self._head + data if self._head else data
        at, left = 0, SHORT_CUTS
        while at < len(data) and not self._dead:
            if not self._owed:
                frame = _frame_at(data, at)
                if frame is None:
                    break
                body, end = frame
                if left and end <= len(data) and self._short_cut(data, at, body, end):
                    at, left = end, left - 1
                    continue
                self._owed = end - at
            part = data[at : at + self._owed]
            self._owed -= len(part)
            at += len(part)
            self._long_way(part)
        self._head = b"" if self._dead else data[at:]

    def _short_cut(self, data: bytes, at: int, body: int, end: int) -> bool:
        """Hands the frame at `at` to `media`; False, and nothing done, if it must go the long
        way."""
        if data[at] != _BINARY or not data[at + 1] & _MASKED:
            return False
        if self.media is None or self.close_sent or not self.queue.empty() or self.frames:
            return False
        if end - body > self.settings.max_message_bytes:
            return False
        self.media(apply_mask(data[body:end], data[body - _KEY_BYTES : body]))
        return True

    def ready(self) -> bool:
        """Whether what `write` is given would go out now."""
        return self.writable.is_set() and not (self.close_sent or self.disconnected or self.transport.is_closing())

    def write(self, message: bytes) -> None:
        """Sends a binary message; for when it is `ready`, and nothing else is on its way."""
        size = len(message)
        head = _SHORT_HEAD.pack(_BINARY, size) if size < _LENGTH_16 else _LONG_HEAD.pack(_BINARY, _LENGTH_16, size)
        self.transport.write(head + message)

    def _long_way(self, data: bytes) -> None:
        for at in range(0, len(data), READ_SLICE):
            if self._dead:
                return
            super().data_received(data[at : at + READ_SLICE])
            if self.queue.qsize() > self.settings.message_burst:
                limit = self.settings.messages_per_second
                self._refuse(CloseCode.TOO_MANY_MESSAGES, f"more than {limit:g} messages a second")

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            cast(dict[str, Any], self.scope["extensions"]).update({LAST_WORDS: self._last_words, SHORT_CUT: self})

    def handle_ping(self) -> None:
        """Pongs for one who does not read them are not kept."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self._refuse(CloseCode.MALFORMED, f"message of more than {MAX_FRAGMENTS} fragments")
            return
        super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text":
            self.frames = [b"".join(self.frames)]
            try:
                self.frames[0].decode()
            except UnicodeDecodeError:
                self.frames = []
                self._refuse(CloseCode.MALFORMED, "a text message is not UTF-8")
                return
        if not self._dead:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        if isinstance(self.conn.parser_exc, PayloadTooBig):
            limit = self.settings.max_message_bytes
            self._refuse(CloseCode.MESSAGE_TOO_BIG, f"message of more than {limit} bytes")
        else:
            super().handle_parser_exception()

    def keepalive_timeout(self) -> None:
        """A peer that answers no ping is dead; nothing that waits for it will ever be read."""
        super().keepalive_timeout()
        self.transport.abort()

    async def run_asgi(self) -> None:
        try:
            await super().run_asgi()
        finally:
            self._cut_later()
            # Circles through this connection; collecting those of a crowd would stop everyone's
            # sound.
            self.media = None
            for name in (LAST_WORDS, SHORT_CUT):
                cast(dict[str, Any], self.scope["extensions"]).pop(name, None)

    async def send(self, message: Any) -> None:
        if self._dead:
            raise ClientDisconnected  # ended from below; `receive` says why
        if self._unbounded:
            self.writable.set()
        await super().send(message)

    def _last_words(self) -> None:
        """From now on `send` waits for nothing: an error and a close follow, and then the
        connection is cut."""
        self._unbounded = True
        self.writable.set()

    def _refuse(self, code: CloseCode, message: str) -> None:
        """Ends the connection from below the application, which hears of it as a disconnect with
        this code."""
        if self._dead or self.close_sent:
            return
        self.stop_keepalive()
        self.conn.data_to_send()
        self._dead = True
        if self.handshake_complete:
            reason = message.encode()[:CLOSE_REASON_BYTES].decode(errors="ignore")
            text = Frame(Opcode.TEXT, Error(code=code, message=message).model_dump_json().encode())
            close = Frame(Opcode.CLOSE, Close(code, reason).serialize())
            self.transport.write(text.serialize(mask=False) + close.serialize(mask=False))
        self.close_sent = True
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": message})
        # What still comes is read and thrown away for a while: closing a socket with bytes unread
        # resets the connection, and the client would lose the reason.
        self.transport.resume_reading()
        self.read_paused = True
        self.close_timer = self.loop.call_later(self.close_timeout / 2, self.transport.close)
        self._cut_later()

    def _cut_later(self) -> None:
        if self._cut is None and not self.disconnected:
            self._cut = self.loop.call_later(2 * self.close_timeout, self.transport.abort)


def _frame_at(data: bytes, at: int) -> tuple[int, int] | None:
    """(start of the payload, end) of the WebSocket frame at `at` (RFC 6455, section 5.2), None if
    its head is not whole."""
    left = len(data) - at
    if left < 2:
        return None
    size, body = data[at + 1] & ~_MASKED, at + 2
    if size == _LENGTH_16:
        body += 2
        size = int.from_bytes(data[at + 2 : body], "big")
    elif size == _LENGTH_64:
        body += 8
        size = int.from_bytes(data[at + 2 : body], "big")
    if data[at + 1] & _MASKED:
        body += _KEY_BYTES
    return (body, body + size) if body <= len(data) else None


class PatientHttp(HttpToolsProtocol):
    """HTTP in front of it, patient for `hello_timeout_s` and for `MAX_HEAD_BYTES`: a connection
    that never asks for anything, or never comes to an end with asking, is cut."""

    settings: ClassVar[Settings]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_bytes = 0
        self._asked = self.loop.call_later(self.settings.hello_timeout_s, transport.abort)
        # Upgraded connections count too; those above the limit are refused with a code, so some
        # more may come.
        if len(self.connections) > 2 * self.settings.max_connections:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._asked.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.transport.abort()
            return
        super().data_received(data)

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # it holds this connection in a circle

    def on_message_begin(self) -> None:
        self._asked.cancel()
        self._asked = self.loop.call_later(self.settings.hello_timeout_s, self.transport.abort)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._asked.cancel()
        self._head_bytes = 0
        super().on_headers_complete()


def protocol_classes(settings: Settings) -> tuple[type[PatientHttp], type[MediaProtocol]]:
    """The HTTP and WebSocket protocols of one server."""
    http = type("BoundHttp", (PatientHttp,), {"settings": settings})
    media = type("BoundMedia", (MediaProtocol,), {"settings": settings})
    return http, media
