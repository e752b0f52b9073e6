"""Entropy coding of a server's connections (protocol/entropy_link.py) on the codec workers: what is
measured of it, and what goes plain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from earshot.codec.bitstream import packed_size
from earshot.codec.errors import EngineFull
from earshot.codec.lm.entropy import LiveLm
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.entropy_link import LinkDecoder, LinkEncoder
from earshot.protocol.messages import Hello
from earshot.protocol.packet import CodedPacket, Packet
from earshot.server.core.address_shares import AddressShares
from earshot.server.core.packet_coding import PLAIN, PacketCoding, Sendable, StartEntropy, Workers, entropy_stats
from earshot.server.core.send_queue import Media

TASK_FRAMES = 8
"""Frames that are coded at a stretch: a worker is back at its streams after a millisecond or
two."""
LONGEST_WAIT = 0.5
"""In frames: what would wait longer for a worker goes plain."""
BUSY = 0.5
"""While the workers use more than this part of their time, clients that come in get plain
codes."""


def entropy_by(live: LiveLm) -> StartEntropy:
    """Returns what `create_app` takes as `entropy` for this language model."""
    return partial(CodedConnections, live)


class CodedConnections:
    """All entropy-coded connections of a server, and the figures of both directions together."""

    def __init__(self, live: LiveLm, workers: Workers, most: int, share: float, frame_us: float) -> None:
        self.live, self._workers, self._most, self._share = live, workers, most, share
        self._limit_us = LONGEST_WAIT * frame_us
        self._open = AddressShares()
        self.packets = 0
        self.frames_plain = 0
        """Frames that could have been coded and were not, for lack of time or place."""
        self.plain_bytes = 0
        """Size that the codes of the coded packets would have had without it."""
        self.coded_bytes = 0

    def open(self, hello: Hello, address: str) -> PacketCoding:
        """Returns the coding for a client that has the model, if there are place and time for it
        and its address has not its share of the places; else plain packets."""
        if self.live.digest not in hello.entropy:
            return PLAIN
        if self._open.total() >= self._most or self._workers.busy() > BUSY:
            return PLAIN
        if not self._open.may_take(address, self._most, self._share):
            return PLAIN
        self._open.take(address)
        return CodedConnection(self, self.live, address)

    def closed(self, address: str) -> None:
        """Gives up the place of a connection from this address."""
        self._open.give_back(address)

    async def code(self, encoder: LinkEncoder, packets: Sequence[Packet]) -> list[Packet | CodedPacket]:
        """Returns the same packets, coded where there is time for it."""
        try:
            sent: list[Packet | CodedPacket] = await self._workers.do(
                lambda: [encoder.encode(packet) for packet in packets], self._limit_us
            )
        except EngineFull:
            sent = list(packets)
        for packet in sent:
            if isinstance(packet, CodedPacket):
                self._count(packet)
            elif packet.scale is None:
                self.frames_plain += packet.frames
        return sent

    async def decode(self, decoder: LinkDecoder, packet: CodedPacket) -> Packet:
        """Returns the plain packet, and waits for it as long as it takes: nothing more is read of
        its sender meanwhile. Raises ProtocolError."""
        try:
            plain: Packet = await self._workers.do(partial(decoder.decode, packet))
        except EngineFull as error:
            raise ProtocolError(str(error), CloseCode.OVERLOADED) from error
        self._count(packet)
        return plain

    def _count(self, packet: CodedPacket) -> None:
        self.packets += 1
        self.plain_bytes += packed_size(packet.n_q, packet.frames)
        self.coded_bytes += len(packet.payload)

    def stats(self) -> dict[str, Any]:
        """Returns what `/stats` shows."""
        return entropy_stats(
            self.live.digest,
            self._open.total(),
            self.packets,
            self.plain_bytes,
            self.coded_bytes,
            self.frames_plain,
            self._workers.coding_cpu_us,
        )


class CodedConnection:
    """Both directions of one connection. `code` and `decode` are each called by one task, one
    packet after the other: so nothing waits here, and a worker without time holds up that
    connection alone."""

    def __init__(self, coded: CodedConnections, live: LiveLm, address: str) -> None:
        self._coded, self._address = coded, address
        self.digest: str | None = live.digest
        self._encoder, self._decoder = LinkEncoder(live.lm), LinkDecoder(live.lm)
        self._closed = False

    async def code(self, media: Sequence[Media], clock_us: Callable[[], int]) -> Sequence[Sendable]:
        """Codes what the send queue gave, a few frames at a time. Traces get the time when that is
        done as `relayed`."""
        sent: list[Sendable] = []
        waiting: list[Packet] = []
        for part in media:
            if not isinstance(part, Packet):
                sent.append(part)
                continue
            waiting.append(part)
            if sum(packet.frames for packet in waiting) >= TASK_FRAMES:
                sent += await self._coded.code(self._encoder, waiting)
                waiting = []
        sent += await self._coded.code(self._encoder, waiting) if waiting else []
        now_us = clock_us()
        return [part if part.trace is None else part._replace(trace=part.trace.relayed_at(now_us)) for part in sent]

    async def decode(self, packet: CodedPacket, admitted: CodedPacket | None) -> Packet | None:
        """Returns the plain packet with the trace of `admitted`, or None if the packet was not
        admitted; the stream goes on anyway. Raises ProtocolError."""
        plain = await self._coded.decode(self._decoder, packet)
        return None if admitted is None else plain._replace(trace=admitted.trace)

    def close(self) -> None:
        """Gives up the place; a second time it does nothing."""
        if not self._closed:
            self._closed = True
            self._coded.closed(self._address)
