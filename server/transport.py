"""uvicorn's protocols with bounds: small buffers, so that what waits has an age that we know; ends that cannot hang."""

from __future__ import annotations

import asyncio
import socket
from asyncio.transports import BaseTransport
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import Close, Frame, Opcode

from codec.errors import CloseCode
from codec.messages import Error
from server.connection import CLOSE_REASON_BYTES, LAST_WORDS
from server.settings import Settings

READ_SLICE = 2048
"""A read may hold tens of thousands of empty messages; between slices of so many bytes it is seen that they pile up."""
MAX_FRAGMENTS = 64
MAX_HEAD_BYTES = 1 << 16
"""Of an HTTP request, and of whatever follows it: nothing here takes a body."""
PROTOCOL_SIZE_FACTOR = 2
"""The WebSocket layer itself stops at so many times `max_message_bytes`, before it has read all of a message."""


class MediaProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose peer may be slow, dead or hostile.

    `send` waits while more than `write_high_water_bytes` wait for the kernel, and the kernel holds little that is not
    yet on its way (TCP_NOTSENT_LOWAT): the rest waits in the send queue, which knows how old it is."""

    settings: ClassVar[Settings]

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.close_timeout = self.settings.close_timeout_s
        self._unbounded = False
        self._dead = False
        self._cut: asyncio.TimerHandle | None = None
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
            extensions = cast(dict[str, Any], self.scope["extensions"])
            extensions[LAST_WORDS] = self._last_words

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
            # A circle through this connection; collecting those of a crowd would stop everyone's sound.
            cast(dict[str, Any], self.scope["extensions"]).pop(LAST_WORDS, None)

    async def send(self, message: Any) -> None:
        if self._unbounded:
            self.writable.set()
        await super().send(message)

    def _last_words(self) -> None:
        """From now on `send` waits for nothing: an error and a close follow, and then the connection is cut."""
        self._unbounded = True
        self.writable.set()

    def _refuse(self, code: CloseCode, message: str) -> None:
        """Ends the connection from below the application, which hears of it as a disconnect with this code."""
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
        # What still comes is read and thrown away for a while: closing a socket with bytes unread resets the
        # connection, and the client would lose the reason.
        self.transport.resume_reading()
        self.read_paused = True
        self.close_timer = self.loop.call_later(self.close_timeout / 2, self.transport.close)
        self._cut_later()

    def _cut_later(self) -> None:
        if self._cut is None and not self.disconnected:
            self._cut = self.loop.call_later(2 * self.close_timeout, self.transport.abort)


class PatientHttp(HttpToolsProtocol):
    """HTTP in front of it, patient for `hello_timeout_s` and for `MAX_HEAD_BYTES`: a connection that never asks for
    anything, or never comes to an end with asking, is cut."""

    settings: ClassVar[Settings]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_bytes = 0
        self._asked = self.loop.call_later(self.settings.hello_timeout_s, transport.abort)
        # Upgraded connections count too; those above the limit are refused with a code, so some more may come.
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
