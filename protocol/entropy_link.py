"""Entropy coding of one link, which is one direction of one connection, with a stream for each
speaker.

A link is coded where it begins and decoded where it ends, next to the socket. Packets are dropped,
joined and cut before they are coded, and TCP loses nothing. So both ends see the same packets in
the same order, and never have to agree on anything again. Plain packets may come between coded
ones; they leave the streams as they are."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from earshot.codec.bitstream import pack, packed_size, unpack
from earshot.codec.errors import DataError
from earshot.codec.lm.entropy import CodesLm, EntropyDecoder, EntropyEncoder
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.packet import MAX_CODED_BYTES, MAX_CODED_FRAMES, CodedPacket, Packet

MAX_STREAMS = 8
"""Speakers of a link that are coded at the same time. Each takes some 0.12 MB at both ends."""
IDLE_PACKETS = 400
"""A speaker's stream makes way for a new one after so many coded packets of others (5 s or
more)."""


@dataclass
class _Stream:
    encoder: EntropyEncoder
    used: int
    """How many packets of the link had been coded when this stream was last used."""
    anew: bool = True
    """Whether the far end must begin anew with the next packet."""


class LinkEncoder:
    """Codes packets at the near end. It may be used from any thread, for one packet at a time."""

    def __init__(self, lm: CodesLm) -> None:
        self._lm, self._count = lm, 0
        self._streams: OrderedDict[int, _Stream] = OrderedDict()
        """Streams by source, in the order in which the far end saw them last, so that both ends
        give up the same one for a new one."""

    def encode(self, packet: Packet) -> Packet | CodedPacket:
        """Returns the packet coded. Returns it as it is if it is a window, too long, or of one
        speaker too many."""
        if packet.scale is not None or packet.frames > MAX_CODED_FRAMES:
            return packet
        if packed_size(packet.n_q, packet.frames) > MAX_CODED_BYTES:
            return packet
        stream = self._streams.get(packet.source) or self._begin(packet.source)
        if stream is None:
            return packet
        payload = b"".join(stream.encoder.encode(unpack(packet.payload, packet.n_q, packet.frames)))
        if len(payload) > MAX_CODED_BYTES:  # the far end gets it plain, and its decoder falls behind
            stream.encoder.reset()
            stream.anew = True
            return packet
        anew, stream.anew = stream.anew, False
        self._count += 1
        stream.used = self._count
        self._streams.move_to_end(packet.source)
        return CodedPacket(
            packet.n_q, packet.frames, packet.sequence, packet.timestamp, payload, anew, packet.trace, packet.source
        )

    def _begin(self, source: int) -> _Stream | None:
        if len(self._streams) >= MAX_STREAMS:
            oldest = next(iter(self._streams))
            if self._count - self._streams[oldest].used < IDLE_PACKETS:
                return None
            del self._streams[oldest]
        stream = self._streams[source] = _Stream(EntropyEncoder(self._lm, joint=True), self._count)
        return stream


class LinkDecoder:
    """Decodes packets at the far end. It may be used from any thread, for one packet at a time."""

    def __init__(self, lm: CodesLm) -> None:
        self._lm = lm
        self._streams: OrderedDict[int, EntropyDecoder] = OrderedDict()

    def decode(self, packet: CodedPacket) -> Packet:
        """Returns the plain packet. Raises ProtocolError for what no encoder makes; that speaker's
        stream is then over."""
        if packet.anew:
            self._streams.pop(packet.source, None)
            if len(self._streams) >= MAX_STREAMS:
                self._streams.popitem(last=False)
            self._streams[packet.source] = EntropyDecoder(self._lm, joint=True)
        stream = self._streams.get(packet.source)
        if stream is None:
            raise ProtocolError("an entropy-coded packet goes on with a stream that has not begun")
        self._streams.move_to_end(packet.source)
        plain = packed_size(max(packet.n_q - self._lm.shape.n_q, 0), packet.frames)
        coded = len(packet.payload) - plain
        if coded < 0:
            raise ProtocolError(f"an entropy-coded packet of {len(packet.payload)} bytes is truncated")
        sections = [packet.payload[:coded]] + ([packet.payload[coded:]] if plain else [])
        try:
            codes = stream.decode(sections, packet.n_q, packet.frames)
        except DataError as error:
            del self._streams[packet.source]  # its decoder has stopped in the middle of a frame
            raise ProtocolError(str(error)) from error
        return Packet(
            packet.n_q, packet.frames, packet.sequence, packet.timestamp, pack(codes), packet.trace, packet.source
        )
