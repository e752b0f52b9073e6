"""A WebSocket whose peer may be slow, dead or hostile."""

from __future__ import annotations

import asyncio
import socket
from asyncio.transports import BaseTransport
from collections.abc import Callable
from typing import Any, ClassVar, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import Close, Frame, Opcode

from earshot.protocol.close_codes import CloseCode
from earshot.protocol.messages import Error
from earshot.server.clock import clock_us
from earshot.server.core.rate_limit import TokenBucket
from earshot.server.core.websocket_frames import MASK_BYTES, FrameEnds, binary_head, whole_binary
from earshot.server.net.asgi_extensions import CLOSE_REASON_BYTES, LAST_WORDS, SHORT_CUT
from earshot.server.net.door import Door, Visit
from earshot.server.settings import Settings

try:
    from websockets.speedups import apply_mask
except ImportError:  # websockets was built without its C extension
    from websockets.utils import apply_mask

READ_SLICE = 2048
"""Bytes that are parsed at once. One read may hold tens of thousands of empty messages, so the
queue is looked at after every slice."""
BYTES_PER_TURN = 4 * READ_SLICE
"""Bytes of one connection that are handled in one turn of the event loop. What a read holds beyond
them is handled in the next turns, and everyone else's turn is between them."""
MAX_QUEUED = 64
"""Messages that wait for the application before nothing more is parsed. What follows waits as bytes
of the last read, in the kernel, and then at the sender."""
MAX_FRAGMENTS = 64
"""Fragments of one message at most."""
NORMAL, INVALID_DATA = 1000, 1007
PARSER_CODES = (1002, INVALID_DATA, 1011)
"""Codes of RFC 6455, section 7.4.1, for bytes that are no WebSocket frames: websockets chooses."""
CLOSE_WITHIN_MESSAGE = "incomplete fragmented message"
"""What websockets says of a peer that closes before its message is whole, as it may."""
SHORT_CUTS = 8
"""Messages of one turn that take the short cut. The others wait in the queue, so that one peer
cannot keep the event loop to itself."""


class MediaProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose peer may be slow, dead or hostile.

    `send` waits while more than `write_high_water_bytes` wait for the kernel. The kernel holds
    little that is not yet on its way (TCP_NOTSENT_LOWAT), so the rest waits in the send queue,
    which knows how old it is. A `ShortCut` to the application, see asgi_extensions.py."""

    settings: ClassVar[Settings]
    door: ClassVar[Door]

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.visit: Visit | None = None
        self._handshake = self.loop.call_later(self.door.limits.head_s, self._too_slow)
        self.close_timeout = self.settings.close_timeout_s
        self._unbounded = False
        self._dead = False
        self._cut: asyncio.TimerHandle | None = None
        self._short_cuts_left = 0
        self._ends = FrameEnds()
        self._rest = bytearray()
        self._turn_is_due = False
        limits = self.settings
        self._frames = TokenBucket(limits.messages_per_second, limits.message_burst, clock_us())
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
        self._handshake.cancel()
        if self.visit is not None:
            self.visit.leave()
        if self.handshake_complete and self.conn.close_rcvd is None and not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        super().connection_lost(exc)

    def check_handshake(self) -> None:
        """Sends what websockets answers to a head that it does not take, and closes."""
        if self.conn.handshake_exc is not None:
            self._turn_away("bad_handshake")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def _too_slow(self) -> None:
        self._turn_away("handshake_too_slow")
        self.transport.abort()

    def _turn_away(self, reason: str) -> None:
        self.door.refuse(self.client[0] if self.client else "", reason)

    def data_received(self, data: bytes) -> None:
        if self._rest:  # what came before it waits for its turn
            self._rest += data
            self._pause_reading()
            return
        self._short_cuts_left = SHORT_CUTS
        if self.media is not None and self._ends.between:
            data = self._take_short_cuts(data)
        at, end = 0, min(len(data), BYTES_PER_TURN)
        while at < end and self._may_parse():
            self._parse(data[at : at + READ_SLICE])
            at += READ_SLICE
        if at < len(data) and not self._dead:
            self._rest += data[at:]
            self._pause_reading()
            self._turn_later()

    def _take_short_cuts(self, data: bytes) -> bytes:
        """Hands the whole messages with which `data` begins to `media`, and returns the rest. That
        saves the parser of websockets 6 to 10 us a message, a tenth of what the event loop spends
        on it in all."""
        at = 0
        while (frame := whole_binary(data, at, READ_SLICE)) is not None and (media := self._short_cut()) is not None:
            body, at = frame
            self._short_cuts_left -= 1
            media(apply_mask(data[body:at], data[body - MASK_BYTES : body]))
        return data[at:]

    def _may_parse(self) -> bool:
        """Returns whether what comes next may be parsed now."""
        return not self._dead and (self.close_sent or self.queue.qsize() < MAX_QUEUED)

    def _parse(self, data: bytes) -> None:
        if self.handshake_initiated:  # the request for the WebSocket came before
            self._ends.follow(data)
        super().data_received(data)

    def _turn_later(self) -> None:
        if not self._turn_is_due and self._may_parse():
            self._turn_is_due = True
            self.loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Handles more of what a read held."""
        self._turn_is_due = False
        data = bytes(self._rest[:BYTES_PER_TURN])
        later, self._rest = self._rest[BYTES_PER_TURN:], bytearray()
        self.data_received(data)
        if self._dead:
            return
        self._rest += later
        if self._rest:
            self._turn_later()
        elif not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    async def receive(self) -> Any:
        event = await super().receive()
        if self._rest:
            self._pause_reading()
            self._turn_later()
        return event

    def _pause_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def _charge(self) -> bool:
        """Counts a frame that is no message of its own: a ping, a pong, a fragment, or what comes
        after the close. They have a budget as large as that of messages. Returns whether the frame
        is within it."""
        if self._dead:
            return False
        if self._frames.take(1, clock_us()):
            return True
        if self.close_sent:
            self._dead = True  # it has been told why, and is cut soon: nothing more of it is parsed
            self._rest.clear()
        else:
            self._refuse_too_many()
        return False

    def _refuse_too_many(self) -> None:
        limit = self.settings.messages_per_second
        self._refuse(CloseCode.TOO_MANY_MESSAGES, f"more than {limit:g} messages a second")

    def handle_bytes(self, event: Frame) -> None:
        size_is_right = len(event.data) <= self.settings.max_message_bytes
        if event.fin and size_is_right and (media := self._short_cut()) is not None:
            self._short_cuts_left -= 1
            media(bytes(event.data))
        elif (event.fin and not self.close_sent) or self._charge():
            super().handle_bytes(event)

    def _short_cut(self) -> Callable[[bytes], None] | None:
        """Returns `media` if a message may go straight to it now; None if something waits before
        the message. A task, a queue and a pause of the socket for each message would cost several
        times what is done with it."""
        if not self._short_cuts_left or self.close_sent or self._dead or self.frames or not self.queue.empty():
            return None
        return self.media

    def handle_text(self, event: Frame) -> None:
        if (event.fin and not self.close_sent) or self._charge():
            super().handle_text(event)

    def ready(self) -> bool:
        """Returns whether a message given to `write` would go out now."""
        return self.writable.is_set() and not (self.close_sent or self.disconnected or self.transport.is_closing())

    def write(self, message: bytes) -> None:
        """Sends a binary message; only for when it is `ready` and nothing else is on its way."""
        self.transport.write(binary_head(len(message)) + message)

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            cast(dict[str, Any], self.scope["extensions"]).update({LAST_WORDS: self._last_words, SHORT_CUT: self})

    def handle_ping(self) -> None:
        """Answers a ping, unless the peer does not read: its pongs would pile up."""
        if self._charge() and self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_pong(self, event: Frame) -> None:
        if self._charge():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        if not self._charge():
            return
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
                self._refuse(INVALID_DATA, "a text message is not UTF-8")
                return
        if not self._dead:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        if isinstance(self.conn.parser_exc, PayloadTooBig):
            limit = self.settings.max_message_bytes
            self._refuse(CloseCode.MESSAGE_TOO_BIG, f"message of more than {limit} bytes")
        elif str(self.conn.parser_exc) == CLOSE_WITHIN_MESSAGE:
            self._refuse(NORMAL, "")
        elif (close := self.conn.close_sent) is not None and close.code in PARSER_CODES:
            self._refuse(close.code, f"not a WebSocket frame: {close.reason}")
        else:
            super().handle_parser_exception()

    def keepalive_timeout(self) -> None:
        """Cuts a peer that answers no ping: whatever waits for it will never be read."""
        super().keepalive_timeout()
        self.transport.abort()

    async def run_asgi(self) -> None:
        self._handshake.cancel()
        if self.visit is not None:
            self.visit.brought()
        try:
            await super().run_asgi()
        finally:
            self._cut_later()
            # These references form cycles through this connection. If the garbage collector had to
            # free those of a crowd, everyone's sound would stop meanwhile.
            self.media = None
            for name in (LAST_WORDS, SHORT_CUT):
                cast(dict[str, Any], self.scope["extensions"]).pop(name, None)

    async def send(self, message: Any) -> None:
        if self._dead:
            raise ClientDisconnected  # `_refuse` has ended it, and `receive` gives the reason
        if self._unbounded:
            self.writable.set()
        await super().send(message)
        if self.close_sent and self._rest:  # nobody takes it any more: it is parsed to its end
            self._pause_reading()
            self._turn_later()

    def _last_words(self) -> None:
        """Lets `send` wait for nothing from now on: an error and a close follow, and then the
        connection is cut."""
        self._unbounded = True
        self.writable.set()

    def _refuse(self, code: int, message: str) -> None:
        """Ends the connection without the application, which is told of a disconnect with this
        code. With codes of RFC 6455 only the close says why, as that wants it."""
        if self._dead or self.close_sent:
            return
        self.stop_keepalive()
        self.conn.data_to_send()
        self._dead = True
        self._rest.clear()
        if self.handshake_complete:
            reason = message.encode()[:CLOSE_REASON_BYTES].decode(errors="ignore")
            text = Frame(Opcode.TEXT, Error(code=code, message=message).model_dump_json().encode())
            close = Frame(Opcode.CLOSE, Close(code, reason).serialize())
            said = b"" if code in (NORMAL, *PARSER_CODES) else text.serialize(mask=False)
            self.transport.write(said + close.serialize(mask=False))
        self.close_sent = True
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": message})
        # What still comes is read and thrown away for a while: closing a socket with unread bytes
        # resets the connection, and the client would lose the reason.
        self.transport.resume_reading()
        self.read_paused = True
        self.close_timer = self.loop.call_later(self.close_timeout / 2, self.transport.close)
        self._cut_later()

    def _cut_later(self) -> None:
        if self._cut is None and not self.disconnected:
            self._cut = self.loop.call_later(2 * self.close_timeout, self.transport.abort)
