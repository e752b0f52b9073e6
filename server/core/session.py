"""One client's connection as a state machine, without socket, clock or task.

Something happens (a message comes, time goes by, the encoder has a result), and the method for it
returns what is to be done about it: its effects (effects.py). What waits for the client goes the
other way round: the shell takes it (`next_control`, `take`) when the socket can have more, as only
the shell knows when that is. Whatever a client does wrong ends in one `Close` (refusals.py).

    HELLO ---hello---> JOINING ---joined---> JOINED
      |                   |                     |
      +-------------------+---------------------+---refused, failed, lost---> CLOSING ---> CLOSED
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.messages import (
    ROOM_PATTERN,
    Hello,
    Moderate,
    Mute,
    PeerChanged,
    Ping,
    Pong,
    Record,
    ServerMessage,
    SetRate,
    Welcome,
    parse_client,
)
from earshot.protocol.packet import CodedPacket, Packet, PcmUp
from earshot.protocol.short_headers import LinkReader, LinkWriter
from earshot.protocol.silence import Silence
from earshot.server.core import refusals
from earshot.server.core.effects import (
    Announce,
    AskModeration,
    AskRecording,
    ChangeRate,
    Close,
    Decode,
    Effects,
    Encode,
    Hush,
    Join,
    Leave,
    NoteMuted,
    Relay,
)
from earshot.server.core.jobs import Result
from earshot.server.core.packet_coding import Sendable
from earshot.server.core.rate_limit import TokenBucket
from earshot.server.core.room import Peer, Room
from earshot.server.core.send_queue import Media
from earshot.server.core.states import TABLE, Event, State
from earshot.server.core.uplink import SpokenFrame


class IllegalEvent(RuntimeError):  # noqa: N818 -- named as what it is, as h11 and websockets do
    """The shell reported what cannot happen in this state: a fault of ours, never of a client."""


@dataclass(frozen=True)
class SessionLimits:
    """What one client is held to; named as in server/settings.py."""

    messages_per_second: float
    message_burst: int
    control_per_second: float
    control_burst: int
    max_message_bytes: int
    max_waiting_control: int
    hello_timeout_s: float
    stats_interval_s: float


class Session:
    """One connection. Every method raises IllegalEvent, and changes nothing, in a state in which
    TABLE does not name its event."""

    _room: Room
    _peer: Peer
    _coded: bool
    _reader: LinkReader
    _writer: LinkWriter

    def __init__(self, limits: SessionLimits, now_us: int, paused_us: int = 0) -> None:
        """`paused_us` is how long the server has stood still so far, in all."""
        self.state = State.HELLO
        self._paused_us = paused_us
        self._limits = limits
        self._messages = TokenBucket(limits.messages_per_second, limits.message_burst, now_us)
        self._controls = TokenBucket(limits.control_per_second, limits.control_burst, now_us)
        self.outbox: deque[ServerMessage] = deque()
        """Control messages that wait for `next_control`."""
        self.next_time_us = now_us + int(limits.hello_timeout_s * 1e6)
        """When `time` should be called next."""

    # What comes from the client

    def accepted(self, subprotocol_offered: bool, room_name: str) -> Effects:
        """Takes in that the WebSocket is open."""
        self._legal(Event.ACCEPTED)
        if not subprotocol_offered:
            return self._refuse(refusals.wrong_subprotocol())
        if not re.fullmatch(ROOM_PATTERN, room_name):
            return self._refuse(refusals.bad_room_name())
        return ()

    def paused(self, total_us: int) -> None:
        """Takes in how long the server has stood still so far. To be called before what comes
        next, be it time: that may have waited for the server."""
        if total_us == self._paused_us:
            return
        span_us, self._paused_us = total_us - self._paused_us, total_us
        self._messages.credit(span_us)
        self._controls.credit(span_us)
        if self.state is State.JOINED:
            self._peer.uplink.credit(span_us)
        elif self.state is State.HELLO:
            self.next_time_us += span_us

    def text(self, text: str, now_us: int) -> Effects:
        """Takes in a text message."""
        self._legal(Event.TEXT)
        if self.state is State.CLOSING:
            return ()
        try:
            self._count(len(text), now_us)
            return self._hello(text) if self.state is State.HELLO else self._control(text, now_us)
        except ProtocolError as error:
            return self._refuse(error)

    def media(self, data: bytes, now_us: int) -> Effects:
        """Takes in a binary message. This is the path of every frame of every speaker."""
        if self.state is not State.JOINED:
            self._legal(Event.MEDIA)
            if self.state is State.CLOSING:
                return ()
        try:
            self._count(len(data), now_us)
            if self.state is State.HELLO:
                raise refusals.before_hello("media")
            self._peer.media_received += len(data)
            return self._media(self._reader.up(data), now_us)
        except ProtocolError as error:
            return self._refuse(error)

    def lost(self, code: int, reason: str) -> Effects:
        """Takes in that the client has gone, or its connection has."""
        self._legal(Event.LOST)
        if self.state is State.CLOSING:
            return ()
        self.state = State.CLOSING
        return (Leave(code, reason or "connection closed"),)

    # What comes from the server

    def time(self, now_us: int) -> Effects:
        """Takes in that the time `next_time_us` may have come."""
        self._legal(Event.TIME)
        if now_us < self.next_time_us:
            return ()
        if self.state is State.HELLO:
            return self._refuse(refusals.no_hello(self._limits.hello_timeout_s))
        if self.state is State.JOINED:
            self.next_time_us = now_us + self._stats_interval_us
            return self.tell(self._peer.stats(now_us))
        return ()

    def joined(self, room: Room, peer: Peer, welcome: Welcome, now_us: int) -> None:
        """Takes in the place in the room, and what the client is told first."""
        self._legal(Event.JOINED)
        self.state = State.JOINED
        self._room, self._peer, self._coded = room, peer, welcome.entropy is not None
        hop, short = welcome.model.hop_length, welcome.short_headers
        self._reader, self._writer = LinkReader(hop, short, peer.silence), LinkWriter(hop, short)
        self._stats_interval_us = int(max(self._limits.stats_interval_s, peer.stats_every_s) * 1e6)
        self.next_time_us = now_us + self._stats_interval_us
        self.outbox.append(welcome)

    def encoded(self, result: Result) -> Effects:
        """Takes in a frame of this client's PCM that is encoded, or could not be."""
        if self.state is not State.JOINED:  # every frame of every speaker comes here too
            self._legal(Event.ENCODED)
            return ()
        if result.value is None:
            return self._refuse(refusals.encoder_failed())
        frame: SpokenFrame = result.tag
        trace = frame.trace
        if trace is not None:
            trace = trace.encoded_at(result.finished_us)
        return (Relay(len(result.value), 1, frame.sequence, frame.timestamp, result.packed, trace),)

    def decoded(self, packet: Packet | None) -> Effects:
        """Takes in an entropy-coded packet that is decoded; None if it had not been admitted."""
        self._legal(Event.DECODED)
        return () if packet is None or self.state is State.CLOSING else (packet,)

    def tell(self, message: ServerMessage) -> Effects:
        """Queues a control message. Of what a peer has changed only the newest waits, in the place
        of the one before it: others could fill the outbox by changing to and fro."""
        self._legal(Event.TELL)
        if self.state is State.CLOSING:
            return ()
        if isinstance(message, PeerChanged):
            for index, waiting in enumerate(self.outbox):
                if isinstance(waiting, PeerChanged) and waiting.peer.id == message.peer.id:
                    self.outbox[index] = message
                    return ()
        if len(self.outbox) >= self._limits.max_waiting_control:
            return self._refuse(refusals.too_slow())
        self.outbox.append(message)
        return ()

    def fail(self, error: ProtocolError) -> Effects:
        """Takes in that the connection must end, for a reason that lies outside it."""
        self._legal(Event.FAIL)
        return () if self.state is State.CLOSING else self._refuse(error)

    def closed(self) -> None:
        """Takes in that the client is out of its room, and the socket closed."""
        self._legal(Event.CLOSED)
        self.state = State.CLOSED

    # What goes to the client

    def next_control(self, now_us: int) -> str | None:
        """Returns the control message that is sent next, if one waits."""
        if self.state is not State.JOINED or not self.outbox:
            return None
        message = self.outbox.popleft()
        if isinstance(message, Pong):
            message = message.model_copy(update={"sent_us": now_us})
        text = message.text
        self._peer.control_sent += len(text)
        return text

    def due_us(self, now_us: int) -> int | None:
        """Returns when the next message of media should go; None while none waits."""
        return self._peer.queue.due_us(now_us) if self.state is State.JOINED else None

    def next_media(self, now_us: int) -> list[bytes]:
        """Returns the media that are due, as messages."""
        return self.written(self._peer.queue.take(now_us))

    def written(self, media: Sequence[Sendable]) -> list[bytes]:
        """Returns media as messages, each of which must be sent, in this order."""
        messages = self._writer.down(media)
        self._peer.media_sent += sum(map(len, messages))
        return messages

    def take(self, now_us: int) -> list[Media]:
        """Returns the media that are due, for a shell that still has to code them."""
        return self._peer.queue.take(now_us)

    def sent(self, size: int) -> None:
        """Counts bytes of media on their way to the client."""
        self._peer.media_sent += size

    # How it is done

    def _legal(self, event: Event) -> None:
        if event not in TABLE[self.state]:
            raise IllegalEvent(f"{event.value} in state {self.state.value}")

    def _refuse(self, error: ProtocolError) -> Effects:
        self.state = State.CLOSING
        return (Close(error.code, str(error)),)

    def _count(self, size: int, now_us: int) -> None:
        limits = self._limits
        if not self._messages.take(1, now_us):
            raise refusals.too_many_messages(limits.messages_per_second)
        if size > limits.max_message_bytes:
            raise refusals.too_big(size, limits.max_message_bytes)

    def _hello(self, text: str) -> Effects:
        message = parse_client(text)
        if not isinstance(message, Hello):
            raise refusals.before_hello(message.type)
        self.state = State.JOINING
        return (Join(message),)

    def _control(self, text: str, now_us: int) -> Effects:
        self._peer.control_received += len(text)
        if not self._controls.take(1, now_us):
            raise refusals.too_many_controls(self._limits.control_per_second)
        message = parse_client(text)
        if isinstance(message, Hello):
            raise refusals.second_hello()
        if isinstance(message, Ping):
            return self.tell(Pong(ping_us=message.sent_us, received_us=now_us, sent_us=now_us))
        if isinstance(message, SetRate):
            return (ChangeRate(message),)
        if isinstance(message, Mute):
            return Announce(self._room.mute(self._peer, message)), NoteMuted()
        if isinstance(message, Record):
            return (AskRecording(message),)
        if isinstance(message, Moderate):
            return (AskModeration(message),)
        self._peer.report = message
        return ()

    def _media(self, message: PcmUp | Packet | CodedPacket | Silence, now_us: int) -> Effects:
        peer = self._peer
        if isinstance(message, PcmUp):
            if peer.send != "pcm":
                raise refusals.wrong_kind("pcm", peer.send)
            frames = peer.uplink.pcm(message, peer.muted, now_us)
            return tuple([Encode(frame.pcm, now_us, peer.send_n_q, frame) for frame in frames])
        if isinstance(message, Packet):
            if peer.send != "codes":
                raise refusals.wrong_kind("codes", peer.send)
            packet = peer.uplink.codes(message, peer.muted, now_us)
            return () if packet is None else (packet,)
        if isinstance(message, Silence):
            if peer.send != "codes" or peer.model is not None:
                raise refusals.wrong_kind("silence", peer.send)
            return (Hush(message),) if peer.uplink.silence(message, peer.muted, now_us) else ()
        if not self._coded:
            raise refusals.coded_without_model()
        if peer.send != "codes":
            raise refusals.wrong_kind("codes", peer.send)
        return (Decode(message, peer.uplink.codes(message, peer.muted, now_us)),)
