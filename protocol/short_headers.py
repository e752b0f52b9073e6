"""Short headers of packets (docs/protocol.md, "Short headers"): what follows on the packet before
it, in one direction of one connection, says only how it differs.

Both ends of a link keep the same note of each speaker, because TCP brings everything in order. So a
packet must be written with short headers right before it is sent, when it cannot be dropped any
more. Signs of silence pass between the packets and change no notes. The notes are kept by the low
byte of the speaker's id: of two speakers that share one, the last whose header was long is
meant."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.packet import (
    ANEW_FLAG,
    CODED_FLAG,
    TRACE_FLAG,
    CodedPacket,
    MessageType,
    Packet,
    PcmBlock,
    PcmUp,
    Reader,
    decode_down,
    decode_up,
    encode_codes_down,
    encode_codes_up,
    encode_pcm_down,
    packet_entry,
    read_packet,
)
from earshot.protocol.sequence import SEQUENCE_MODULUS, TIMESTAMP_MODULUS
from earshot.protocol.silence import Silence, decode_silence_down, decode_silence_up, encode_silence_down

MOST_FRAMES = 8
"""Frames of a packet with a short header, at most."""
_FRAMES, _TRACE, _CODED, _ANEW, _GAP, _LONG = 7, 8, 16, 32, 64, 128
"""Bits of the byte `shape`: frames - 1, and what follows."""
_GAP_LAYOUT = struct.Struct("<HI")
"""How far sequence and timestamp are beyond the expected ones."""
_UP_LAYOUT = struct.Struct("<BB")
"""type, shape"""
_SHAPE_LAYOUT, _LOW_BYTE_LAYOUT = struct.Struct("<B"), struct.Struct("<B")
_LONG_ENTRY = bytes([_LONG])
_UP, _DOWN = bytes([MessageType.SHORT_UP]), bytes([MessageType.SHORT_DOWN])
_SILENCE_UP, _SILENCE_DOWN = bytes([MessageType.SILENCE_UP]), bytes([MessageType.SILENCE_DOWN])


class _Note(NamedTuple):
    """What both ends know of a speaker after its last packet."""

    source: int
    n_q: int
    sequence: int
    timestamp: int


def _after(packet: Packet | CodedPacket, hop: int) -> _Note:
    return _Note(
        packet.source,
        packet.n_q,
        (packet.sequence + packet.frames) % SEQUENCE_MODULUS,
        (packet.timestamp + packet.frames * hop) % TIMESTAMP_MODULUS,
    )


class LinkWriter:
    """Writes the messages of one link. Each must be sent, in this order."""

    def __init__(self, hop: int, short: bool = True) -> None:
        """`hop` is how many samples a frame of the room's model has. Headers are long unless both
        ends agreed on `short` ones."""
        self._hop, self._is_short = hop, short
        self._notes: dict[int, _Note] = {}

    def up(self, packet: Packet | CodedPacket) -> bytes:
        """Writes a message of codes from a client."""
        short = self._short(packet) if self._is_short else None
        if short is None:
            return encode_codes_up(packet)
        return _UP + short + packet.payload

    def down(self, media: Sequence[Packet | CodedPacket | PcmBlock | Silence]) -> list[bytes]:
        """Writes what goes to a listener now: a message of all codes, one of all PCM, one of all
        silence, several of these, or none."""
        packets, blocks, silences = list[Packet | CodedPacket](), list[PcmBlock](), list[Silence]()
        for part in media:
            if isinstance(part, PcmBlock):
                blocks.append(part)
            elif isinstance(part, Silence):
                silences.append(part)
            else:
                packets.append(part)
        messages = []
        if packets:
            messages.append(self._short_down(packets) if self._is_short else encode_codes_down(packets))
        if blocks:
            messages.append(encode_pcm_down(blocks))
        if silences:
            messages.append(encode_silence_down(silences))
        return messages

    def _short_down(self, packets: Sequence[Packet | CodedPacket]) -> bytes:
        parts = [_DOWN]
        for part in packets:
            short = self._short(part)
            if short is None:
                parts.append(_LONG_ENTRY)
                parts += packet_entry(part)
                continue
            parts.append(short[:1])
            parts.append(bytes([part.source & 0xFF]))
            if isinstance(part, CodedPacket):
                parts.append(bytes([len(part.payload)]))
            parts.append(short[1:])
            parts.append(part.payload)
        return b"".join(parts)

    def _short(self, packet: Packet | CodedPacket) -> bytes | None:
        """Returns shape, gaps and trace of a packet, or None where its header must be long. Notes
        the packet."""
        key, (_, frames, sequence, timestamp) = packet.source & 0xFF, packet[:4]
        note = self._notes.get(key)
        if packet.scale is not None:
            self._notes.pop(key, None)  # a window does not say what comes next
            return None
        self._notes[key] = _after(packet, self._hop)
        if note is None or note.source != packet.source or note.n_q != packet.n_q or frames > MOST_FRAMES:
            return None
        shape, rest = frames - 1, b""
        if note.sequence != sequence or note.timestamp != timestamp:
            shape |= _GAP
            rest = _GAP_LAYOUT.pack(
                (sequence - note.sequence) % SEQUENCE_MODULUS, (timestamp - note.timestamp) % TIMESTAMP_MODULUS
            )
        if packet.trace is not None:
            shape |= _TRACE
            rest += packet.trace.to_bytes()
        if isinstance(packet, CodedPacket):
            shape |= _CODED | (_ANEW if packet.anew else 0)
        return bytes([shape]) + rest


class LinkReader:
    """Reads the messages of one link, in the order in which they were sent. What it raises leaves
    its notes as they were."""

    def __init__(self, hop: int, short: bool = True, silence: bool = True) -> None:
        """`hop` is how many samples a frame of the room's model has; `short` and `silence` say
        whether the two ends agreed on short headers and on signs of silence."""
        self._hop, self._is_short, self._silence = hop, short, silence
        self._notes: dict[int, _Note] = {}

    def up(self, data: bytes) -> PcmUp | Packet | CodedPacket | Silence:
        """Reads a message from a client. Raises ProtocolError as `decode_up` does, and for a short
        header that no long one went before."""
        if self._silence and data[:1] == _SILENCE_UP:
            return decode_silence_up(data)
        if not self._is_short:
            return decode_up(data)
        if data[:1] != _UP:
            message = decode_up(data)
            if not isinstance(message, PcmUp):
                self._note(message)
            return message
        reader = Reader(data)
        _, shape = reader.unpack(_UP_LAYOUT)
        if shape & _LONG:
            raise ProtocolError(f"a short header of shape {shape:#x}")
        packet = self._packet(reader, shape, 0, None)
        reader.end()
        self._note(packet)
        return packet

    def down(self, data: bytes) -> list[Packet | CodedPacket] | list[PcmBlock] | list[Silence]:
        """Reads a message from a server. Raises ProtocolError in the same way."""
        if self._silence and data[:1] == _SILENCE_DOWN:
            return decode_silence_down(data)
        if not self._is_short:
            return decode_down(data)
        if data[:1] != _DOWN:
            parts = decode_down(data)
            for part in parts:
                if not isinstance(part, PcmBlock):
                    self._note(part)
            return parts
        reader, before, packets = Reader(data), self._notes.copy(), list[Packet | CodedPacket]()
        reader.take(1)
        try:
            while reader.at < len(data):
                packets.append(self._entry(reader))
                self._note(packets[-1])
        except ProtocolError:
            self._notes = before
            raise
        if not packets:
            raise ProtocolError("a message of no packets")
        return packets

    def _entry(self, reader: Reader) -> Packet | CodedPacket:
        (shape,) = reader.unpack(_SHAPE_LAYOUT)
        if shape & _LONG:
            if shape != _LONG:
                raise ProtocolError(f"a long entry of shape {shape:#x}")
            return read_packet(reader)
        (low,) = reader.unpack(_LOW_BYTE_LAYOUT)
        size = reader.take(1)[0] if shape & _CODED else None
        return self._packet(reader, shape, low, size)

    def _packet(self, reader: Reader, shape: int, low: int, size: int | None) -> Packet | CodedPacket:
        note = self._notes.get(low)
        if note is None:
            raise ProtocolError("a short header goes on with a speaker whose packets have not begun")
        source, n_q, sequence, timestamp = note
        frames, flags = (shape & _FRAMES) + 1, TRACE_FLAG if shape & _TRACE else 0
        if shape & _GAP:
            skipped, gap = reader.unpack(_GAP_LAYOUT)
            if not skipped and not gap:
                raise ProtocolError("a short header names a gap of nothing")
            sequence, timestamp = (sequence + skipped) % SEQUENCE_MODULUS, (timestamp + gap) % TIMESTAMP_MODULUS
        if shape & _CODED:
            anew = bool(shape & _ANEW)
            trace, coded = reader.coded(n_q, frames, flags | CODED_FLAG | (ANEW_FLAG if anew else 0), size)
            return CodedPacket(n_q, frames, sequence, timestamp, coded, anew, trace, source)
        if shape & _ANEW:
            raise ProtocolError("a packet that is not entropy-coded begins no stream anew")
        trace, _, payload = reader.codes(n_q, frames, flags)
        return Packet(n_q, frames, sequence, timestamp, payload, trace, source)

    def _note(self, packet: Packet | CodedPacket) -> None:
        key = packet.source & 0xFF
        if packet.scale is None:
            self._notes[key] = _after(packet, self._hop)
        else:
            self._notes.pop(key, None)
