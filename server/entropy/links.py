"""Entropy coding of links (protocol/entropy_link.py) on the codec workers: what is measured of it,
and what goes plain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from earshot.codec.bitstream import packed_size
from earshot.codec.errors import EngineFull
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.entropy_link import LinkDecoder, LinkEncoder, LiveLm
from earshot.protocol.messages import Hello
from earshot.protocol.packet import CodedPacket, Packet, PcmBlock
from earshot.server.core.address_shares import AddressShares
from earshot.server.core.send_queue import Media
from earshot.server.encoding.pool import WorkerPool
from earshot.server.settings import Settings

TASK_FRAMES = 8
"""Frames that are coded at a stretch: a worker is back at its streams after a millisecond or
two."""
LONGEST_WAIT = 0.5
"""In frames: what would wait longer for a worker goes plain."""
BUSY = 0.5
"""With more than this part of the workers' time in use, who comes in gets plain codes."""


class Entropy:
    """All coded links of a server, and the figures of both directions together."""

    def __init__(self, live: LiveLm | None, pool: WorkerPool, settings: Settings, frame_us: float) -> None:
        self.live, self._pool, self._settings = live, pool, settings
        self._limit_us = LONGEST_WAIT * frame_us
        self.links = AddressShares()
        """Open ones, by address."""
        self.packets = 0
        self.frames_plain = 0
        """That could have been coded and were not, for lack of time or place."""
        self.plain_bytes = 0
        """What the coded packets' codes would have been without it."""
        self.coded_bytes = 0

    def open(self, hello: Hello, address: str) -> EntropyLink | None:
        """For a client that can, if there are place and time for it and its address has not its
        share of the places."""
        if self.live is None or self.live.digest not in hello.entropy:
            return None
        most = self._settings.max_entropy_links
        if self.links.total() >= most or self._pool.busy() > BUSY:
            return None
        if not self.links.may_take(address, most, self._settings.max_address_share):
            return None
        self.links.take(address)
        return EntropyLink(self, self.live, address)

    def closed(self, address: str) -> None:
        self.links.give_back(address)

    async def code(self, encoder: LinkEncoder, packets: Sequence[Packet]) -> list[Packet | CodedPacket]:
        """The same packets, coded where there is time for it."""
        try:
            sent: list[Packet | CodedPacket] = await self._pool.do(
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
        """Waits as long as it takes: who sends the packet is read no further meanwhile. Raises
        ProtocolError."""
        try:
            plain: Packet = await self._pool.do(partial(decoder.decode, packet))
        except EngineFull as error:
            raise ProtocolError(str(error), CloseCode.OVERLOADED) from error
        self._count(packet)
        return plain

    def _count(self, packet: CodedPacket) -> None:
        self.packets += 1
        self.plain_bytes += packed_size(packet.n_q, packet.frames)
        self.coded_bytes += len(packet.payload)

    def stats(self) -> dict[str, Any]:
        return {
            "model": self.live.digest if self.live else None,
            "links": self.links.total(),
            "packets": self.packets,
            "plain_bytes": self.plain_bytes,
            "coded_bytes": self.coded_bytes,
            "saved_share": round(1 - self.coded_bytes / self.plain_bytes, 4) if self.plain_bytes else 0.0,
            "frames_plain": self.frames_plain,
            "cpu_s": round(self._pool.coding_tasks.cpu_us / 1e6, 3),
        }


class EntropyLink:
    """Both directions of one connection. `code` and `decode` are each called by one task, one
    packet after the other: so nothing waits here, and a worker without time holds up that
    connection alone."""

    def __init__(self, entropy: Entropy, live: LiveLm, address: str) -> None:
        self._entropy, self._address = entropy, address
        self.digest = live.digest
        self._encoder, self._decoder = LinkEncoder(live.lm), LinkDecoder(live.lm)
        self._closed = False

    async def code(self, media: Sequence[Media], clock_us: Callable[[], int]) -> list[Packet | CodedPacket | PcmBlock]:
        """What the send queue gave, a few frames at a time. Traces get the time when that is done
        as `relayed`."""
        sent: list[Packet | CodedPacket | PcmBlock] = []
        waiting: list[Packet] = []
        for part in media:
            if isinstance(part, PcmBlock):
                sent.append(part)
                continue
            waiting.append(part)
            if sum(packet.frames for packet in waiting) >= TASK_FRAMES:
                sent += await self._entropy.code(self._encoder, waiting)
                waiting = []
        sent += await self._entropy.code(self._encoder, waiting) if waiting else []
        now_us = clock_us()
        return [part if part.trace is None else part._replace(trace=part.trace.relayed_at(now_us)) for part in sent]

    async def decode(self, packet: CodedPacket, admitted: CodedPacket | None) -> Packet | None:
        """The plain packet, with what `admitted` says of it, None if it was not admitted; the
        stream goes on anyway. Raises ProtocolError."""
        plain = await self._entropy.decode(self._decoder, packet)
        return None if admitted is None else plain._replace(trace=admitted.trace)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._entropy.closed(self._address)
