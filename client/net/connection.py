"""What a call keeps of one WebSocket. The ids of peers and the server's clock may be different ones
in the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from earshot.client.core.coding_meter import CodingMeter
from earshot.client.core.economy import Economy
from earshot.client.core.receiver import Receiver
from earshot.client.core.sender import MediaSender
from earshot.client.core.traffic import WireMeter
from earshot.client.net.websocket import Lost
from earshot.client.settings import Pace
from earshot.codec.pcm import Pcm
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.messages import PeerInfo, Welcome
from earshot.protocol.packet import CodedPacket, MessageType, Packet, PcmBlock, PcmUp, decode_up
from earshot.protocol.short_headers import LinkReader, LinkWriter
from earshot.protocol.silence import Silence

MAX_NAMES = 256
HOP = 320
"""Samples of a frame until the server has told how many there are."""
CODES_UP = bytes([MessageType.CODES_UP])


class PacketCoder(Protocol):
    """What makes the packets of one connection smaller, next to its socket."""

    digest: str
    """Digest of the language model that it codes with."""
    sent: CodingMeter
    heard: CodingMeter
    failed: bool
    """Whether something came that could not be decoded."""

    async def encode(self, message: bytes) -> bytes:
        """Returns a media message of this client as it is to be sent."""
        ...

    async def decode(
        self, parts: Sequence[Packet | CodedPacket | PcmBlock | Silence]
    ) -> Sequence[Packet | PcmBlock | Silence]:
        """Returns what is in a media message that came. Raises Lost where no message can be decoded
        any more."""
        ...

    def close(self) -> None:
        """Ends its work."""
        ...


@dataclass(frozen=True)
class PacketCoding:
    """A way to make packets smaller that a server may agree to."""

    digest: str
    """Digest of the language model that both ends must have."""
    make_coder: Callable[[], PacketCoder]
    """Makes a coder for a new connection."""


class Mix(Protocol):
    """What makes one stream for the loudspeaker out of everything that is heard."""

    def pull(self, n: int, now_us: int, heard_us: int) -> Pcm:
        """Returns the next samples, which are taken at `now_us`; the first is heard at
        `heard_us`."""
        ...


@dataclass
class Connection:
    """One WebSocket's state. Its figures stay when the socket is gone."""

    receiver: Receiver
    mix: Mix
    coder: PacketCoder | None = None
    """Codes packets once more, where this is agreed on."""
    sender: MediaSender | None = None
    """None until the clocks are compared."""
    names: dict[int, str] = field(default_factory=dict)
    """Names of all peers by id, also of those that have left."""
    present: set[int] = field(default_factory=set)
    """The peers that are in the room."""
    clock_known: asyncio.Event = field(default_factory=asyncio.Event)
    reader: LinkReader = field(default_factory=lambda: LinkReader(HOP, short=False, silence=False))
    """Reads media messages as the two ends agreed to write them."""
    writer: LinkWriter | None = None
    """Shortens headers, where this is agreed on."""
    sent: WireMeter = field(default_factory=lambda: WireMeter(masked=True))
    heard: WireMeter = field(default_factory=lambda: WireMeter(masked=False))
    economy: Economy = field(default_factory=lambda: Economy(75.0))
    """Chooses how many frames the messages of the server hold."""
    told: tuple[Pace, int] | None = None
    """At which pace the server was asked for how many frames, if it was after its welcome."""

    def agree(self, welcome: Welcome) -> None:
        """Takes note of what the server agreed to."""
        hop = welcome.model.hop_length
        self.reader = LinkReader(hop, welcome.short_headers, welcome.silence)
        self.writer = LinkWriter(hop) if welcome.short_headers else None
        self.economy, self.told = Economy(welcome.model.sample_rate / hop), None

    def resume(self, welcome: Welcome, coder: PacketCoder | None) -> None:
        """Goes on with another socket, in the same seat."""
        gone = set(self.present) - {peer.id for peer in welcome.peers}
        for peer in gone:
            self.leave(peer)
        if coder is not None and self.coder is not None:
            coder.sent, coder.heard = self.coder.sent, self.coder.heard
        self.coder = coder
        self.agree(welcome)

    def ask(self, pace: Pace, now_us: int) -> int | None:
        """Returns how many frames the server's messages are to hold from now on; None if as many as
        it knows of: those that were returned last, or those of a pace that is new."""
        traffic = self.receiver.traffic
        self.economy.note(traffic.frames, now_us)
        frames = pace.frames if pace.thrifty else self.economy.choose(pace.frames, traffic.codec_kbps)
        known = self.told[1] if self.told and self.told[0] == pace else pace.frames
        self.told = pace, frames
        return None if frames == known else frames

    def leave(self, peer: int) -> None:
        """Takes note that a peer left."""
        self.present.discard(peer)
        self.receiver.peer_left(peer)

    def meet(self, peer: PeerInfo) -> None:
        """Takes note of a peer, or of what has changed about it."""
        if len(self.names) < MAX_NAMES:
            self.names[peer.id] = peer.name
        self.present.add(peer.id)
        self.receiver.meet(peer)

    def close(self) -> None:
        """Ends the work for a socket that is gone."""
        if self.coder is not None:
            self.coder.close()

    async def outgoing(self, message: bytes) -> bytes:
        """Returns a media message as it is sent, right before that."""
        if message[:1] != CODES_UP:
            return message
        if self.coder is not None:
            message = await self.coder.encode(message)
        if self.writer is not None:
            packet = decode_up(message)
            if not isinstance(packet, PcmUp):
                return self.writer.up(packet)
        return message

    async def put(self, message: bytes, now_us: int, audible: bool) -> None:
        """Takes a media message that arrived at `now_us`. One that cannot be played yet only keeps
        the decoders in step.

        Raises ProtocolError, and Lost if the connection is of no more use."""
        parts: Sequence[Packet | CodedPacket | PcmBlock | Silence]
        try:
            parts = self.reader.down(message)
        except ProtocolError as error:
            if self.coder is not None:
                self.coder.failed = True
            if self.coder is not None or self.writer is not None:  # what comes next would be misread
                raise Lost(f"the server's packets cannot be read ({error})") from error
            raise
        if self.coder is not None:
            parts = await self.coder.decode(parts)
        if audible:
            self.receiver.take(parts, len(message), now_us)
