"""One client's WebSocket: hello, a loop that receives, a loop that sends, and an end that cannot
hang."""

from __future__ import annotations

import asyncio
import logging
import re
import traceback
from collections import deque
from collections.abc import Coroutine

from earshot.codec.errors import EngineFull
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import (
    ROOM_PATTERN,
    SUBPROTOCOL,
    Error,
    Hello,
    Mute,
    PeerChanged,
    Ping,
    Pong,
    Record,
    ServerMessage,
    SetRate,
    parse_client,
)
from earshot.protocol.packet import CodedPacket, Packet, PcmUp, decode_up, encode_down
from earshot.server.core.jobs import Job, Result
from earshot.server.core.packet_coding import PLAIN, PacketCoding
from earshot.server.core.rate_limit import TokenBucket
from earshot.server.core.room import Peer, check_hello
from earshot.server.core.uplink import SpokenFrame
from earshot.server.encoding.queue import CodecSession
from earshot.server.hub import Hub, LiveRoom, clock_us
from earshot.server.net.asgi_extensions import CLOSE_REASON_BYTES, LAST_WORDS, SHORT_CUT, ShortCut
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

log = logging.getLogger(__name__)


class Connection:
    """Runs one client from accept to close. Whatever it does wrong ends here."""

    def __init__(self, websocket: WebSocket, room_name: str, hub: Hub) -> None:
        self._websocket, self._room_name, self._hub = websocket, room_name, hub
        self.address = websocket.client.host if websocket.client else ""
        settings, now = hub.settings, clock_us()
        self._messages = TokenBucket(settings.messages_per_second, settings.message_burst, now)
        self._controls = TokenBucket(settings.control_per_second, settings.control_burst, now)
        self._outbox: deque[ServerMessage] = deque()
        self._something = asyncio.Event()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._live: LiveRoom | None = None
        self._peer: Peer | None = None
        self._encoder: CodecSession | None = None
        self._coding: PacketCoding = PLAIN
        self._short_cut: ShortCut | None = None
        self._sending = False

    # For the hub and other connections

    def wake(self) -> None:
        """There is something in the queues."""
        if not self._send_at_once():
            self._something.set()

    def tell(self, message: ServerMessage) -> None:
        """Queues a control message. Of what a peer has changed only the newest waits, in the place
        of the one before it: others could fill the outbox by changing to and fro."""
        if isinstance(message, PeerChanged):
            for index, waiting in enumerate(self._outbox):
                if isinstance(waiting, PeerChanged) and waiting.peer.id == message.peer.id:
                    self._outbox[index] = message
                    return
        if len(self._outbox) >= self._hub.settings.max_waiting_control:
            self.fail(_too_slow())
            return
        self._outbox.append(message)
        self.wake()

    def fail(self, error: ProtocolError) -> None:
        """Ends this connection soon, with this error."""
        if not self._ended.done():
            self._ended.set_exception(error)

    # The course of a connection

    async def run(self) -> None:
        """Returns when the client is gone. Raises nothing that a client could cause."""
        offered = SUBPROTOCOL in self._websocket.scope["subprotocols"]
        reason, refusal = "", None
        try:
            self._hub.enter(self)
            await self._websocket.accept(SUBPROTOCOL if offered else None)
            await self._serve(offered)
        except ProtocolError as error:
            _forget(error)
            reason, refusal = str(error), error
        except WebSocketDisconnect as gone:
            _forget(gone)
            self._hub.closed[gone.code] += 1
            reason = gone.reason or "connection closed"
        except Exception:
            log.exception("connection of %s in room %s failed", self.address, self._room_name)
            reason = "internal error"
            refusal = ProtocolError("internal error of the server", CloseCode.INTERNAL_ERROR)
        finally:
            # The room first: the others need not wait for this one's goodbye.
            self._leave(reason)
            try:
                if refusal is not None:
                    await self._refuse(refusal)
            finally:
                self._hub.exit(self)
                self._ended.cancel()
                if self._ended.done() and not self._ended.cancelled():
                    self._ended.exception()

    async def _serve(self, offered: bool) -> None:
        if not offered:
            raise ProtocolError(f"the subprotocol must be {SUBPROTOCOL}", CloseCode.UNSUPPORTED_VERSION)
        if not re.fullmatch(ROOM_PATTERN, self._room_name):
            raise ProtocolError("a room name is 1 to 64 of A-Z a-z 0-9 _ -", CloseCode.BAD_ROOM)
        await self._until_one_ends(self._greet())
        await self._until_one_ends(self._receive_loop(), self._send_loop(), self._stats_loop())

    async def _until_one_ends(self, *parts: Coroutine[None, None, None]) -> None:
        """Runs the parts until one returns or raises, or `fail` is called; cancels the others."""
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            done, _ = await asyncio.wait([*tasks, self._ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for finished in done:
            finished.result()

    async def _greet(self) -> None:
        settings = self._hub.settings
        try:
            async with asyncio.timeout(settings.hello_timeout_s):
                hello = await self._receive()
        except TimeoutError:
            raise ProtocolError(f"no hello within {settings.hello_timeout_s:g} s", CloseCode.HELLO_EXPECTED) from None
        if isinstance(hello, bytes):
            raise ProtocolError("media came before hello", CloseCode.HELLO_EXPECTED)
        message = parse_client(hello)
        if not isinstance(message, Hello):
            raise ProtocolError(f"{message.type} came before hello", CloseCode.HELLO_EXPECTED)
        check_hello(message, self._hub.config, self._hub.digest)
        self._hub.check_capacity(self._room_name, message, self.address)
        if message.send == "pcm":
            try:
                self._encoder = self._hub.pool.open("encoder", self._encoded)
            except EngineFull as error:
                raise ProtocolError(str(error), CloseCode.OVERLOADED) from error
            self._hub.speakers.take(self.address)
        self._live, self._peer = self._hub.join(self._room_name, message, self)
        self._coding = self._hub.entropy.open(message, self.address)
        if self._coding is PLAIN:  # what is entropy-coded takes its time both ways: the tasks wait for it
            self._short_cut = self._websocket.scope.get("extensions", {}).get(SHORT_CUT)
        if self._short_cut is not None:
            self._short_cut.media = self._hear
        self.tell(self._hub.welcome(self._live, self._peer, self._coding.digest))

    def _leave(self, reason: str) -> None:
        if self._short_cut is not None:
            self._short_cut.media = None
            self._short_cut = None
        if self._encoder is not None:
            self._encoder.close()
            self._hub.speakers.give_back(self.address)
        self._coding.close()
        if self._live is not None and self._peer is not None:
            self._hub.leave(self._live, self._peer, reason)

    async def _refuse(self, error: ProtocolError) -> None:
        """Says why and closes. A client that does not read cannot hold this up: see LAST_WORDS."""
        self._hub.closed[error.code] += 1
        log.info("%s in room %s: %d %s", self.address, self._room_name, error.code, error)
        last_words = self._websocket.scope.get("extensions", {}).get(LAST_WORDS)
        if last_words is not None:
            last_words()
        text = Error(code=error.code, message=str(error)).model_dump_json()
        reason = str(error).encode()[:CLOSE_REASON_BYTES].decode(errors="ignore")
        try:
            async with asyncio.timeout(self._hub.settings.close_timeout_s):
                if self._websocket.application_state is WebSocketState.CONNECTING:
                    await self._websocket.accept()
                await self._websocket.send_text(text)
                await self._websocket.close(error.code, reason)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            pass  # it went first, or never will; the transport is cut after its own deadline

    # Receiving

    async def _receive(self) -> str | bytes:
        event = await self._websocket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code") or 1005, event.get("reason"))
        self._count(clock_us())
        text, data = event.get("text"), event.get("bytes") or b""
        message: str | bytes = data if text is None else text
        if len(message) > self._hub.settings.max_message_bytes:
            raise ProtocolError(
                f"message of {len(message)} bytes: at most {self._hub.settings.max_message_bytes}",
                CloseCode.MESSAGE_TOO_BIG,
            )
        return message

    def _count(self, now_us: int) -> None:
        if not self._messages.take(1, now_us):
            limit = self._hub.settings.messages_per_second
            raise ProtocolError(f"more than {limit:g} messages a second", CloseCode.TOO_MANY_MESSAGES)

    def _hear(self, data: bytes) -> None:
        """A binary message by the short cut."""
        if self._ended.done():
            return
        try:
            now = clock_us()
            self._count(now)
            self._media(decode_up(data), now)
        except ProtocolError as error:
            self.fail(error)
        except Exception:
            log.exception("a message of %s in room %s failed", self.address, self._room_name)
            self.fail(ProtocolError("internal error of the server", CloseCode.INTERNAL_ERROR))

    async def _receive_loop(self) -> None:
        while True:
            message = await self._receive()
            if isinstance(message, str):
                self._control(message)
            elif self._coding is PLAIN:
                self._media(decode_up(message), clock_us())
            else:
                await self._coded_media(message)
            # Messages that are already here come without a pause; everyone else's turn is between
            # them.
            await asyncio.sleep(0)

    def _control(self, text: str) -> None:
        live, peer = self._in_room()
        now = clock_us()
        if not self._controls.take(1, now):
            limit = self._hub.settings.control_per_second
            raise ProtocolError(f"more than {limit:g} control messages a second", CloseCode.TOO_MANY_MESSAGES)
        message = parse_client(text)
        if isinstance(message, Hello):
            raise ProtocolError("a second hello", CloseCode.HELLO_EXPECTED)
        if isinstance(message, Ping):
            self.tell(Pong(ping_us=message.sent_us, received_us=now, sent_us=now))
        elif isinstance(message, SetRate):
            self._hub.check_rate(live, peer, message)
            live.broadcast(live.room.set_rate(peer, message), but=peer.id)
            live.prune()
        elif isinstance(message, Mute):
            live.broadcast(live.room.mute(peer, message), but=peer.id)
            live.recorder.muted(peer)
        elif isinstance(message, Record):
            live.record(peer, message)
        else:
            peer.report = message

    async def _coded_media(self, data: bytes) -> None:
        """Media of one who may send entropy-coded packets. What comes after one waits until it is
        decoded."""
        message = decode_up(data)
        if not isinstance(message, CodedPacket):
            self._media(message, clock_us())
            return
        live, peer = self._in_room()
        _check_kind("codes", peer)
        admitted = peer.uplink.codes(message, peer.muted, clock_us())
        packet = await self._coding.decode(message, admitted)
        if packet is not None:
            live.relay(peer, packet)

    def _media(self, message: PcmUp | Packet | CodedPacket, now_us: int) -> None:
        live, peer = self._in_room()
        if isinstance(message, CodedPacket):
            raise ProtocolError("an entropy-coded packet came, and welcome names no language model")
        _check_kind("pcm" if isinstance(message, PcmUp) else "codes", peer)
        if isinstance(message, Packet):
            packet = peer.uplink.codes(message, peer.muted, now_us)
            if packet is not None:
                live.relay(peer, packet)
            return
        for frame in peer.uplink.pcm(message, peer.muted, now_us):
            if self._encoder is not None and self._encoder.push(Job(frame.pcm, now_us, peer.send_n_q, frame)):
                peer.uplink.discard(1)

    def _encoded(self, result: Result) -> None:
        if result.value is None:
            self.fail(ProtocolError("the encoder failed", CloseCode.INTERNAL_ERROR))
            return
        live, peer = self._in_room()
        frame: SpokenFrame = result.tag
        trace = frame.trace
        if trace is not None:
            trace = trace.encoded_at(result.finished_us)
        live.relay(peer, Packet(len(result.value), 1, frame.sequence, frame.timestamp, result.packed, trace))

    def _in_room(self) -> tuple[LiveRoom, Peer]:
        if self._live is None or self._peer is None:
            raise RuntimeError("this connection is in no room")
        return self._live, self._peer

    # Sending

    async def _send_loop(self) -> None:
        """Control first, then media when it is due. The only place that sends while a client is in
        a room."""
        loop = asyncio.get_running_loop()
        _, peer = self._in_room()
        queue = peer.queue
        while True:
            await self._something.wait()
            self._something.clear()
            while self._outbox:
                await self._send(self._outbox.popleft())
            now = clock_us()
            due = queue.due_us(now)
            if due is None:
                continue
            if due > now:
                timer = loop.call_later((due - now) / 1e6, self._something.set)
                await self._something.wait()
                timer.cancel()
                continue
            media = queue.take(now)
            for message in encode_down(await self._coding.code(media, clock_us)):
                await self._send(message)
            self._something.set()

    def _send_at_once(self) -> bool:
        """Sends the media that are due without waking the task that sends; False if that has
        something to do."""
        link, peer = self._short_cut, self._peer
        if link is None or peer is None or self._sending or self._outbox:
            return False
        while (due := peer.queue.due_us(now := clock_us())) is not None:
            if due > now or not link.ready():
                return False
            for message in encode_down(peer.queue.take(now)):
                peer.bytes_sent += len(message)
                link.write(message)
        return True

    async def _send(self, message: ServerMessage | bytes) -> None:
        """Raises ProtocolError if the client does not take it in time."""
        _, peer = self._in_room()
        self._sending = True
        try:
            async with asyncio.timeout(self._hub.settings.close_after_ms / 1000):
                if isinstance(message, bytes):
                    peer.bytes_sent += len(message)
                    await self._websocket.send_bytes(message)
                else:
                    if isinstance(message, Pong):
                        message = message.model_copy(update={"sent_us": clock_us()})
                    text = message.model_dump_json()
                    peer.bytes_sent += len(text)
                    await self._websocket.send_text(text)
        except TimeoutError:
            raise _too_slow() from None
        finally:
            self._sending = False

    async def _stats_loop(self) -> None:
        _, peer = self._in_room()
        while True:
            await asyncio.sleep(self._hub.settings.stats_interval_s)
            self.tell(peer.stats(clock_us()))


def _check_kind(kind: str, peer: Peer) -> None:
    if kind != peer.send:
        raise ProtocolError(f"{kind} came from a client that said it would send {peer.send}")


def _too_slow() -> ProtocolError:
    return ProtocolError("you read too slowly: try a lower max_kbps", CloseCode.TOO_SLOW)


def _forget(error: BaseException) -> None:
    """Lets go of the frames that an error came through. With what they hold they form circles
    around it, and to collect those of a crowd that is sent away would stop everyone's sound for
    tens of milliseconds."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link.__traceback__ = None
        link = link.__context__
