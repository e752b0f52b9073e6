"""What the path of a packet asks of entropy coding, which hangs in from outside (server/entropy),
and what serves where there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from earshot.protocol.messages import Hello
from earshot.protocol.packet import CodedPacket, Packet, PcmBlock
from earshot.protocol.silence import Silence
from earshot.server.core.send_queue import Media

Sendable = Packet | CodedPacket | PcmBlock | Silence
"""What a message to a listener consists of."""


class Workers(Protocol):
    """Threads that do small pieces of work beside their own."""

    @property
    def coding_cpu_us(self) -> int:
        """Processor time that such pieces of work took, in all."""
        ...

    def busy(self) -> float:
        """Returns the part of their time that is taken."""
        ...

    async def do(self, work: Callable[[], Any], limit_us: float = math.inf) -> Any:
        """Returns what `work` returns. Raises EngineFull if it would wait longer than that."""
        ...


class PacketCoding(Protocol):
    """How the packets of one connection are coded, in both directions. `code` and `decode` are each
    called by one task, one packet after the other."""

    @property
    def digest(self) -> str | None:
        """The language model that codes; None if packets go plain."""
        ...

    async def code(self, media: Sequence[Media], clock_us: Callable[[], int]) -> Sequence[Sendable]:
        """Returns what is sent of what the send queue gave."""
        ...

    async def decode(self, packet: CodedPacket, admitted: CodedPacket | None) -> Packet | None:
        """Returns the plain packet with the trace of `admitted`, or None if the packet was not
        admitted. Every packet must come here, in order. Raises ProtocolError."""
        ...

    def close(self) -> None:
        """Gives up the place of this connection."""
        ...


class EntropyCoding(Protocol):
    """Which connections of a server are entropy-coded."""

    def open(self, hello: Hello, address: str) -> PacketCoding:
        """Returns how the packets of a client that has just joined are coded."""
        ...

    def stats(self) -> dict[str, Any]:
        """Returns what `/stats` shows."""
        ...


class StartEntropy(Protocol):
    """Makes the entropy coding of a server once its workers are known."""

    def __call__(self, workers: Workers, most: int, share: float, frame_us: float) -> EntropyCoding:
        """Returns the coding. `most` bounds the coded connections of a server, `share` the part of
        them that one address may have."""
        ...


class PlainPackets:
    """The coding of connections whose packets go plain."""

    digest: str | None = None

    async def code(self, media: Sequence[Media], clock_us: Callable[[], int]) -> Sequence[Sendable]:
        return media

    async def decode(self, packet: CodedPacket, admitted: CodedPacket | None) -> Packet | None:
        raise RuntimeError("nothing is decoded on a connection whose packets go plain")

    def close(self) -> None:
        pass


PLAIN = PlainPackets()


class NoEntropy:
    """The entropy coding of a server without a language model."""

    def open(self, hello: Hello, address: str) -> PacketCoding:
        return PLAIN

    def stats(self) -> dict[str, Any]:
        return entropy_stats()


def no_entropy(workers: Workers, most: int, share: float, frame_us: float) -> EntropyCoding:
    """Serves as `StartEntropy` where there is no language model."""
    return NoEntropy()


def entropy_stats(
    model: str | None = None,
    links: int = 0,
    packets: int = 0,
    plain_bytes: int = 0,
    coded_bytes: int = 0,
    frames_plain: int = 0,
    cpu_us: int = 0,
) -> dict[str, Any]:
    """Returns the figures of `/stats` about entropy coding."""
    return {
        "model": model,
        "links": links,
        "packets": packets,
        "plain_bytes": plain_bytes,
        "coded_bytes": coded_bytes,
        "saved_share": round(1 - coded_bytes / plain_bytes, 4) if plain_bytes else 0.0,
        "frames_plain": frames_plain,
        "cpu_s": round(cpu_us / 1e6, 3),
    }
