"""Entropy coding in a client: packets become smaller right before the socket and plain right behind
it, on a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from earshot.client.local_clock import monotonic_us
from earshot.client.net.websocket import Lost
from earshot.codec.bitstream import packed_size
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.entropy_link import LinkDecoder, LinkEncoder, LiveLm
from earshot.protocol.packet import CodedPacket, Packet, PcmBlock, decode_down, decode_up, encode_codes_up

RECENT_US = 1_000_000

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Totals:
    """Of packets that went or came entropy-coded."""

    plain_bytes: int = 0
    """What their codes would have been."""
    coded_bytes: int = 0
    cpu_us: int = 0

    def plus(self, other: Totals, sign: int = 1) -> Totals:
        return Totals(
            self.plain_bytes + sign * other.plain_bytes,
            self.coded_bytes + sign * other.coded_bytes,
            self.cpu_us + sign * other.cpu_us,
        )


@dataclass(frozen=True)
class Rates:
    """Codes a second of time, without headers, and the part of one core that coding takes."""

    plain_kbps: float = 0.0
    coded_kbps: float = 0.0
    cpu_share: float = 0.0


@dataclass
class Meter:
    """Totals, and those of the last one to two seconds."""

    total: Totals = field(default_factory=Totals)
    _marks: tuple[tuple[int, Totals], ...] = ()
    """The last two of moments that are RECENT_US apart or more."""

    def add(self, more: Totals, now_us: int) -> None:
        if not self._marks or now_us - self._marks[-1][0] >= RECENT_US:
            self._marks = (*self._marks[-1:], (now_us, self.total))
        self.total = self.total.plus(more)

    def recent(self, now_us: int) -> Rates:
        """All zero once it has been still for long."""
        if not self._marks or now_us - self._marks[-1][0] > 2 * RECENT_US:
            return Rates()
        at, before = self._marks[0]
        since, took_us = self.total.plus(before, -1), max(now_us - at, RECENT_US // 4)
        return Rates(since.plain_bytes * 8e3 / took_us, since.coded_bytes * 8e3 / took_us, since.cpu_us / took_us)


class EntropyLink:
    """Both directions of one connection. Each is used by one task, one message after the other, so
    nothing waits here: who sends too much is read later."""

    def __init__(self, live: LiveLm) -> None:
        self.digest = live.digest
        self.sent, self.heard = Meter(), Meter()
        self.failed = False
        """Whether what came could not be decoded."""
        self._encoder, self._decoder = LinkEncoder(live.lm), LinkDecoder(live.lm)
        self._thread = ThreadPoolExecutor(1, "earshot entropy")

    async def code(self, message: bytes) -> bytes:
        """A media message of this client as it goes."""
        return await self._on_thread(lambda: self._coded(message))

    async def decode(self, message: bytes) -> Sequence[Packet | PcmBlock]:
        """What is in a media message that came. Raises Lost where that cannot be told: no later one
        could be read either."""
        try:
            parts = decode_down(message)
            if not any(isinstance(part, CodedPacket) for part in parts):
                return [part for part in parts if not isinstance(part, CodedPacket)]
            return await self._on_thread(lambda: self._plain(parts))
        except ProtocolError as error:
            self.failed = True
            raise Lost(f"the server's entropy-coded packets cannot be read ({error}); going on without") from error

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _on_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _coded(self, message: bytes) -> bytes:
        packet = decode_up(message)
        if not isinstance(packet, Packet):
            return message
        began = time.thread_time_ns()
        coded = self._encoder.encode(packet)
        if isinstance(coded, Packet):
            return message
        self._count(self.sent, [coded], began)
        return encode_codes_up(coded)

    def _plain(self, parts: Sequence[Packet | CodedPacket | PcmBlock]) -> list[Packet | PcmBlock]:
        began = time.thread_time_ns()
        plain = [self._decoder.decode(part) if isinstance(part, CodedPacket) else part for part in parts]
        self._count(self.heard, [part for part in parts if isinstance(part, CodedPacket)], began)
        return plain

    def _count(self, meter: Meter, packets: Sequence[CodedPacket], began_ns: int) -> None:
        plain = sum(packed_size(packet.n_q, packet.frames) for packet in packets)
        coded = sum(len(packet.payload) for packet in packets)
        meter.add(Totals(plain, coded, (time.thread_time_ns() - began_ns) // 1000), monotonic_us())
