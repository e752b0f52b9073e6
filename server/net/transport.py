"""The part of this project that depends on how uvicorn is made inside: its protocols and its
server, with bounds on what a connection may hold and how long it may take.

uvicorn documents its options, not its classes. pyproject.toml therefore bounds its version, and
tests/server/net/test_uvicorn_private.py fails when one of the names below has changed. No other
file touches them, but for the two names that lab/listening/transport.py adds.

`WebSocketsSansIOProtocol`, which carries a WebSocket:
- Methods that are replaced here, and that uvicorn calls: `connection_made`, `connection_lost`,
  `data_received`, `handle_connect`, `handle_bytes`, `handle_text`, `handle_cont`, `handle_ping`,
  `handle_pong`, `handle_parser_exception`, `send_receive_event_to_app`, `keepalive_timeout`,
  `run_asgi`, `send`, `receive`.
- Method that is called here: `stop_keepalive`.
- State that is read: `transport`, `loop`, `scope`, `handshake_complete`, `disconnected`,
  `curr_msg_data_type`, `conn` (websockets' `ServerProtocol`, which is public: `data_to_send`,
  `parser_exc`, `close_sent`, `handshake_exc`).
- State that is written too: `queue` (events for the application), `frames` (fragments of a message
  that is not complete), `writable` (an event), `close_sent`, `close_timeout`, `close_timer`,
  `read_paused`.

`HttpToolsProtocol`, which carries HTTP until a WebSocket takes over:
- Methods that are replaced: `connection_made`, `connection_lost`, `data_received`,
  `handle_websocket_upgrade`, `send_400_response`, `on_message_begin`, `on_url`, `on_header`,
  `on_headers_complete`, `on_message_complete`, `on_response_complete`.
- State: `transport`, `loop`, `connections` (of the whole server), `parser`, `client`.
- lab/listening/transport.py extends `PatientHttp`, and uses `on_body` of it as well.

`Server`:
- Methods that are replaced: `startup`, `shutdown`, `capture_signals`.
- State: `config`, `started`, `server_state.connections`, `lifespan.state`, `_captured_signals`.

The file has more than 400 lines because all that depends on uvicorn's inside is in it. What needs
nothing of uvicorn is elsewhere: who comes in when, and the counts, are in door.py.

Frames are parsed and made by websockets alone. That costs 6 to 10 us a frame of PCM more than code
that knows nothing but short binary messages: 3 to 5 % of what the server spends on the frame in
all, about 10 % of what its event loop spends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from asyncio.transports import BaseTransport
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import Close, Frame, Opcode

from earshot.protocol.close_codes import CloseCode
from earshot.protocol.messages import Error
from earshot.server.clock import clock_us
from earshot.server.core.rate_limit import TokenBucket
from earshot.server.net.asgi_extensions import CLOSE_REASON_BYTES, LAST_WORDS, SHORT_CUT
from earshot.server.net.door import Door, Visit, new_door
from earshot.server.settings import Settings

log = logging.getLogger(__name__)

READ_SLICE = 2048
"""Bytes that are parsed at once. One read may hold tens of thousands of empty messages, so the
queue is checked after every slice."""
BYTES_PER_TURN = 4 * READ_SLICE
"""Bytes of one connection that are handled in one turn of the event loop. What a read holds beyond
them is handled in the next turns, and everyone else's turn is between them."""
MAX_FRAGMENTS = 64
"""Fragments of one message at most."""
MAX_HEAD_BYTES = 1 << 15
"""Bytes of an HTTP request at most, whatever follows it included: no request here has a body."""
MAX_HEADERS = 100
MAX_LINE_BYTES = 8000
"""The path of a request and each of its headers have fewer bytes than that. websockets, which gets
the same head, stops at 128 headers and 8192 bytes, and then answers nothing."""
ACCEPTS_PER_TURN = 64
ACCEPT_PAUSE_S = 0.01
"""Time between two turns of accepting. Accepting is cheap; letting in is what is dear."""
PARSER_CODES = (1002, 1007, 1011)
"""Codes of RFC 6455, section 7.4.1, for bytes that are no WebSocket frames: websockets chooses."""
PROTOCOL_SIZE_FACTOR = 2
"""The WebSocket layer itself refuses a message of this many times `max_message_bytes`, before it
has read all of it. Shorter ones are refused by the application, with a code that says why."""
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
        self._rest = bytearray()
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
        super().connection_lost(exc)

    def check_handshake(self) -> None:
        """Sends what websockets answers to a head that it does not take, and closes."""
        if self.conn.handshake_exc is not None:
            self.door.refused["bad_handshake"] += 1
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def _too_slow(self) -> None:
        self.door.refused["handshake_too_slow"] += 1
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._rest:  # what came before it waits for its turn
            self._rest += data
            return
        self._short_cuts_left = SHORT_CUTS
        if len(data) <= READ_SLICE:
            self._parse(data)
            return
        for at in range(0, min(len(data), BYTES_PER_TURN), READ_SLICE):
            self._parse(data[at : at + READ_SLICE])
        if len(data) > BYTES_PER_TURN and not self._dead:
            self._rest += data[BYTES_PER_TURN:]
            if not self.transport.is_closing():
                self.transport.pause_reading()
            self.loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Handles more of what a read held."""
        data = bytes(self._rest[:BYTES_PER_TURN])
        del self._rest[:BYTES_PER_TURN]
        later, self._rest = self._rest, bytearray()
        self.data_received(data)
        if self._dead:
            return
        if later:
            self._rest = later
            self.loop.call_soon(self._take_turn)
        elif not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _parse(self, data: bytes) -> None:
        if self._dead:
            return
        super().data_received(data)
        if self.queue.qsize() > self.settings.message_burst:
            self._refuse_too_many()

    async def receive(self) -> Any:
        event = await super().receive()
        if self._rest and not self.transport.is_closing():
            self.transport.pause_reading()
        return event

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
        """Hands a whole message straight to `media` while nothing waits before it. A task, a queue
        and a pause of the socket for each message would cost several times what is done with it."""
        if (
            self.media is not None
            and event.fin
            and self._short_cuts_left
            and not self.close_sent
            and self.queue.empty()
            and len(event.data) <= self.settings.max_message_bytes
        ):
            self._short_cuts_left -= 1
            self.media(bytes(event.data))
        elif (event.fin and not self.close_sent) or self._charge():
            super().handle_bytes(event)

    def handle_text(self, event: Frame) -> None:
        if (event.fin and not self.close_sent) or self._charge():
            super().handle_text(event)

    def ready(self) -> bool:
        """Returns whether a message given to `write` would go out now."""
        return self.writable.is_set() and not (self.close_sent or self.disconnected or self.transport.is_closing())

    def write(self, message: bytes) -> None:
        """Sends a binary message; only for when it is `ready` and nothing else is on its way."""
        self.transport.write(Frame(Opcode.BINARY, message).serialize(mask=False))

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
                self._refuse(CloseCode.MALFORMED, "a text message is not UTF-8")
                return
        if not self._dead:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        if isinstance(self.conn.parser_exc, PayloadTooBig):
            limit = self.settings.max_message_bytes
            self._refuse(CloseCode.MESSAGE_TOO_BIG, f"message of more than {limit} bytes")
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

    def _last_words(self) -> None:
        """Lets `send` wait for nothing from now on: an error and a close follow, and then the
        connection is cut."""
        self._unbounded = True
        self.writable.set()

    def _refuse(self, code: int, message: str) -> None:
        """Ends the connection without the application, which is told of a disconnect with this
        code."""
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
            self.transport.write(text.serialize(mask=False) + close.serialize(mask=False))
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


class PatientHttp(HttpToolsProtocol):
    """HTTP in front of the WebSocket, with a deadline at each moment: for the head of a request,
    for its body, for the answer, and for the next request. A head has `MAX_HEAD_BYTES` at most.
    What passes one of these bounds is cut and counted."""

    door: ClassVar[Door]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._visit: Visit | None = self.door.visit(self.client[0] if self.client else "")
        self._head_bytes = self._url_bytes = self._headers = 0
        self._too_large = False
        self._body_is_due = False
        self._deadline: asyncio.TimerHandle | None = None
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
        self.door.refused[reason] += 1
        self.transport.abort()

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
        self.door.refused["head_too_large"] += 1
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


class HealthHttp(PatientHttp):
    """HTTP of the port for health and figures, which opens no WebSocket."""

    def handle_websocket_upgrade(self) -> None:
        self._cut("bad_handshake")


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

    def _open_door(self, listener: socket.socket, door: Door, http: type[PatientHttp]) -> None:
        listener.setblocking(False)
        self._doors += [
            asyncio.create_task(self._accept(listener, door)),
            asyncio.create_task(self._let_in(door, http)),
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

    async def _let_in(self, door: Door, http: type[PatientHttp]) -> None:
        """Takes new connections in one by one, so that those who talk do not notice a crowd."""
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.Protocol:
            return cast(asyncio.Protocol, http(self.config, self.server_state, self.lifespan.state))

        while True:
            connection = await door.next()
            try:
                await loop.connect_accepted_socket(protocol, connection)
            except OSError:
                connection.close()  # the peer is gone already
            except Exception:
                log.exception("a connection could not be let in")
                connection.close()
            await asyncio.sleep(door.limits.interval_s)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for door in self._doors:
            door.cancel()
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
    ) -> None:
        """Makes a server to `run(sockets=[listener])`. It calls `ready` with the port once it takes
        connections; it awaits `before_close`, which may still send, before it closes them. A second
        socket is the port for health and figures, which has a door of its own."""
        door = door or new_door(settings)
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
        self._health = new_door(settings)

    def _open_doors(self, sockets: list[socket.socket]) -> None:
        super()._open_doors(sockets[:1])
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
