"""Entropy coding in a client: packets become smaller right before the socket and plain right behind
it, on a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from earshot.client.core.coding_meter import CodingMeter, CodingTotals
from earshot.client.local_clock import monotonic_us
from earshot.client.net.websocket import Lost
from earshot.codec.bitstream import packed_size
from earshot.codec.lm.entropy import LiveLm
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.entropy_link import LinkDecoder, LinkEncoder
from earshot.protocol.packet import CodedPacket, Packet, PcmBlock, decode_up, encode_codes_up
from earshot.protocol.silence import Silence

_Result = TypeVar("_Result")


class EntropyCoder:
    """Codes both directions of one connection.

    Each direction is used by one task, one message after the other, so that nothing queues up here.
    Where coding takes too long, the next message is read or sent later."""

    def __init__(self, live: LiveLm) -> None:
        self.digest = live.digest
        self.sent, self.heard = CodingMeter(), CodingMeter()
        self.failed = False
        """Whether something came that could not be decoded."""
        self._encoder, self._decoder = LinkEncoder(live.lm), LinkDecoder(live.lm)
        self._thread = ThreadPoolExecutor(1, "earshot entropy")

    async def encode(self, message: bytes) -> bytes:
        """Returns a media message of this client as it is to be sent."""
        return await self._on_thread(lambda: self._coded(message))

    async def decode(
        self, parts: Sequence[Packet | CodedPacket | PcmBlock | Silence]
    ) -> Sequence[Packet | PcmBlock | Silence]:
        """Returns what is in a media message that came. Raises Lost where it cannot be decoded,
        because no later message could be either."""
        try:
            if not any(isinstance(part, CodedPacket) for part in parts):
                return [part for part in parts if not isinstance(part, CodedPacket)]
            return await self._on_thread(lambda: self._plain(parts))
        except ProtocolError as error:
            self.failed = True
            raise Lost(f"the server's entropy-coded packets cannot be read ({error}); going on without") from error

    def close(self) -> None:
        """Ends the thread. What waits to be coded is dropped."""
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

    def _plain(self, parts: Sequence[Packet | CodedPacket | PcmBlock | Silence]) -> list[Packet | PcmBlock | Silence]:
        began = time.thread_time_ns()
        plain = [self._decoder.decode(part) if isinstance(part, CodedPacket) else part for part in parts]
        self._count(self.heard, [part for part in parts if isinstance(part, CodedPacket)], began)
        return plain

    def _count(self, meter: CodingMeter, packets: Sequence[CodedPacket], began_ns: int) -> None:
        plain = sum(packed_size(packet.n_q, packet.frames) for packet in packets)
        coded = sum(len(packet.payload) for packet in packets)
        meter.add(CodingTotals(plain, coded, (time.thread_time_ns() - began_ns) // 1000), monotonic_us())
