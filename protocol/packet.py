"""Binary messages of the protocol (docs/protocol.md, "Media"): from bytes to tuples and back.

All numbers are little endian. Sequence numbers count frames modulo 2^16; those of PCM from a client
count messages. Timestamps count samples modulo 2^32. Times are the server's clock in microseconds
modulo 2^32."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from earshot.codec.bitstream import check, cut, packed_size
from earshot.codec.errors import DataError
from earshot.codec.pcm import MOST_SCALE
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.sequence import CLOCK_MODULUS

MAX_FRAMES = 32
"""Frames in one packet, at most (0.43 s)."""
MAX_WINDOW_FRAMES = 255
"""Frames in a packet that is a whole window, at most."""
MAX_CODED_FRAMES = 8
"""Frames in an entropy-coded packet, at most, so that decoding one takes little time."""
MAX_CODED_BYTES = 255
"""Bytes of codes in an entropy-coded packet, at most."""
MAX_CODEBOOKS = 32
MAX_PCM_SAMPLES = 24_000
"""Samples in one PCM message, at most (1 s)."""
MAX_MESSAGE_BYTES = 1 << 17


class MessageType(IntEnum):
    """The first byte of a binary message: up from clients, down from servers."""

    PCM_UP = 1
    CODES_UP = 2
    CODES_DOWN = 3
    PCM_DOWN = 4
    SHORT_UP = 5
    SHORT_DOWN = 6
    SILENCE_UP = 7
    SILENCE_DOWN = 8


class PcmFormat(IntEnum):
    """How samples from a client are written."""

    S16 = 0
    F32 = 1

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return 2 if self is PcmFormat.S16 else 4


TRACE_TICK_US = 100
TRACE_FLAG, _WINDOW, CODED_FLAG, ANEW_FLAG = 1, 2, 4, 8
TRACE_LAYOUT = struct.Struct("<I4H")
"""capture_us, framed, encoded, received, relayed"""
_SCALE_FORMAT = struct.Struct("<f")


class Trace(NamedTuple):
    """When things happened to the first frame of a packet.

    All times but the first are ticks of 0.1 ms after `capture_us`, at most 65535 (6.6 s), and 0
    where they are not yet known."""

    capture_us: int
    """When the first sample was spoken, on the server's clock in microseconds modulo 2^32."""
    framed: int = 0
    """When the last sample of the frame was there."""
    encoded: int = 0
    """When the codes were there."""
    received: int = 0
    """When the server had the message."""
    relayed: int = 0
    """When the server passed the packet on."""

    def ticks_at(self, clock_us: int) -> int:
        """Returns the ticks from capture to a reading of the server's clock, limited to what
        fits."""
        elapsed = (clock_us - self.capture_us) % CLOCK_MODULUS
        if elapsed >= CLOCK_MODULUS // 2:  # the reading is from before the capture
            return 0
        return min(elapsed // TRACE_TICK_US, 0xFFFF)

    # These are made for every frame of every speaker. `_replace` would take twice as long.
    def received_at(self, clock_us: int) -> Trace:
        """Returns the trace with the time at which the server had the message."""
        return Trace(self.capture_us, self.framed, self.encoded, self.ticks_at(clock_us), self.relayed)

    def encoded_at(self, clock_us: int) -> Trace:
        """Returns the trace with the time at which the codes were there."""
        return Trace(self.capture_us, self.framed, self.ticks_at(clock_us), self.received, self.relayed)

    def relayed_at(self, clock_us: int) -> Trace:
        """Returns the trace with the time at which the server passed the packet on."""
        return Trace(self.capture_us, self.framed, self.encoded, self.received, self.ticks_at(clock_us))

    def to_bytes(self) -> bytes:
        """Returns the trace as it goes on the wire."""
        return TRACE_LAYOUT.pack(self.capture_us, self.framed, self.encoded, self.received, self.relayed)


class Packet(NamedTuple):
    """Codes of one source: some frames, or one window."""

    n_q: int
    frames: int
    sequence: int
    """Number of the first frame, modulo 2^16. A gap means frames that were lost or dropped."""
    timestamp: int
    """Position of the first sample, modulo 2^32. A gap without one in `sequence` is silence that
    was not sent."""
    payload: bytes
    """What `bitstream.pack` makes of [n_q, frames] codes."""
    trace: Trace | None = None
    source: int = 0
    """Peer id of the speaker. 0 on the way up, where the server knows it."""
    scale: float | None = None
    """Factor for the samples of a window, a 32-bit float; 1 if the model leaves volume alone. None
    for packets of frames."""

    def cut(self, n_q: int) -> Packet:
        """Returns the packet at the rate of `n_q` codebooks, or as it is if it has no more."""
        if n_q >= self.n_q:
            return self
        return self._replace(n_q=n_q, payload=cut(self.payload, self.frames, n_q))

    def of(self, source: int, trace: Trace | None) -> Packet:
        """Returns the same codes as those of another source, with another trace."""
        return Packet(self.n_q, self.frames, self.sequence, self.timestamp, self.payload, trace, source, self.scale)


class CodedPacket(NamedTuple):
    """A packet of frames whose codes are entropy-coded by protocol/entropy_link.py. Only a peer
    that has the same language model can read it."""

    n_q: int
    frames: int
    sequence: int
    timestamp: int
    payload: bytes
    """One arithmetic code of the codebooks that the language model knows, then the other codebooks
    as `bitstream.pack` makes them. The number of the latter says where the former ends."""
    anew: bool = False
    """Whether this speaker's stream begins anew with this packet."""
    trace: Trace | None = None
    source: int = 0
    scale: None = None
    """Windows are not entropy-coded."""


class PcmUp(NamedTuple):
    """Any number of samples of a microphone. `sequence` counts messages."""

    format: PcmFormat
    sequence: int
    timestamp: int
    data: bytes
    trace: Trace | None = None


class PcmBlock(NamedTuple):
    """Decoded 16-bit samples of one speaker for a listener that cannot decode. `sequence` counts
    frames."""

    source: int
    sequence: int
    timestamp: int
    data: bytes
    trace: Trace | None = None


_PCM_FORMATS = {int(form): form for form in PcmFormat}
PCM_UP_LAYOUT = struct.Struct("<BBBBHI")
"""type, flags, format, 0, sequence, timestamp"""
CODES_UP_LAYOUT = struct.Struct("<BBBBHI")
"""type, flags, codebooks, frames, sequence, timestamp"""
DOWN_LAYOUT = struct.Struct("<BB")
"""type, number of entries"""
CODES_ENTRY_LAYOUT = struct.Struct("<HBBBBHI")
"""source, flags, codebooks, frames, bytes of an entropy-coded payload or 0, sequence, timestamp"""
PCM_ENTRY_LAYOUT = struct.Struct("<HHBBHI")
"""source, samples, flags, 0, sequence, timestamp"""


class Reader:
    """Reads a message from the front. Raises ProtocolError where the message is too short."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def kind(self) -> int:
        """Returns the first byte, which stays part of the header."""
        if not self.data:
            raise self._truncated(1, 0)
        return self.data[0]

    def take(self, size: int) -> bytes:
        start, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise self._truncated(size, start)
        return self.data[start : self.at]

    def rest(self) -> bytes:
        start, self.at = self.at, len(self.data)
        return self.data[start:]

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        start, self.at = self.at, self.at + layout.size
        if self.at > len(self.data):
            raise self._truncated(layout.size, start)
        return layout.unpack_from(self.data, start)

    def _truncated(self, size: int, at: int) -> ProtocolError:
        return ProtocolError(f"message of {len(self.data)} bytes is truncated: {size} more expected at {at}")

    def trace(self, flags: int, known: int = TRACE_FLAG) -> Trace | None:
        if flags & ~known:
            raise ProtocolError(f"unknown flags {flags:#x}")
        return Trace(*self.unpack(TRACE_LAYOUT)) if flags & TRACE_FLAG else None

    def codes(self, n_q: int, frames: int, flags: int) -> tuple[Trace | None, float | None, bytes]:
        """Reads what follows the header of a packet of codes: its trace, its scale if it is a
        window, and its payload."""
        most = MAX_WINDOW_FRAMES if flags & _WINDOW else MAX_FRAMES
        if not 1 <= n_q <= MAX_CODEBOOKS or not 1 <= frames <= most:
            raise ProtocolError(f"{n_q} codebooks x {frames} frames: 1..{MAX_CODEBOOKS} x 1..{most} are allowed")
        trace = self.trace(flags, TRACE_FLAG | _WINDOW)
        scale = None
        if flags & _WINDOW:
            (scale,) = _SCALE_FORMAT.unpack(self.take(_SCALE_FORMAT.size))
            if not 0 <= scale <= MOST_SCALE:
                raise ProtocolError(f"the scale of a window is {scale}: 0..{MOST_SCALE:g} is allowed")
        payload = self.take(packed_size(n_q, frames))
        try:
            check(payload, n_q, frames)
        except DataError as error:
            raise ProtocolError(str(error)) from error
        return trace, scale, payload

    def coded(self, n_q: int, frames: int, flags: int, size: int | None) -> tuple[Trace | None, bytes]:
        """Reads what follows the header of an entropy-coded packet: its trace and its payload. If
        no size is given, the payload is all that is left."""
        if not 1 <= n_q <= MAX_CODEBOOKS or not 1 <= frames <= MAX_CODED_FRAMES:
            most = f"1..{MAX_CODEBOOKS} x 1..{MAX_CODED_FRAMES}"
            raise ProtocolError(f"{n_q} codebooks x {frames} frames, entropy-coded: {most} are allowed")
        trace = self.trace(flags, TRACE_FLAG | CODED_FLAG | ANEW_FLAG)
        payload = self.rest() if size is None else self.take(size)
        if len(payload) > MAX_CODED_BYTES:
            raise ProtocolError(f"{len(payload)} bytes of entropy-coded codes: at most {MAX_CODED_BYTES}")
        return trace, payload

    def zero(self, value: int) -> None:
        """Checks a byte that docs/protocol.md keeps free for later versions."""
        if value:
            raise ProtocolError(f"a byte that must be zero is {value}")

    def end(self) -> None:
        """Checks that nothing is left."""
        if self.at != len(self.data):
            raise ProtocolError(f"{len(self.data) - self.at} bytes after the end of the message")


def _flags(trace: Trace | None) -> int:
    return 0 if trace is None else TRACE_FLAG


def _packet_flags(packet: Packet | CodedPacket) -> int:
    flags = _flags(packet.trace)
    if isinstance(packet, CodedPacket):
        return flags | CODED_FLAG | ANEW_FLAG * packet.anew
    return flags if packet.scale is None else flags | _WINDOW


def _trace_bytes(trace: Trace | None) -> bytes:
    return b"" if trace is None else trace.to_bytes()


def _after_header(packet: Packet | CodedPacket) -> bytes:
    if packet.scale is None:
        return _trace_bytes(packet.trace) + packet.payload
    return _trace_bytes(packet.trace) + _SCALE_FORMAT.pack(packet.scale) + packet.payload


def encode_pcm_up(message: PcmUp) -> bytes:
    """Writes a message of samples from a client."""
    header = PCM_UP_LAYOUT.pack(
        MessageType.PCM_UP, _flags(message.trace), message.format, 0, message.sequence, message.timestamp
    )
    return header + _trace_bytes(message.trace) + message.data


def encode_codes_up(packet: Packet | CodedPacket) -> bytes:
    """Writes a message of codes from a client."""
    flags = _packet_flags(packet)
    header = CODES_UP_LAYOUT.pack(
        MessageType.CODES_UP, flags, packet.n_q, packet.frames, packet.sequence, packet.timestamp
    )
    return header + _after_header(packet)


def decode_up(data: bytes) -> PcmUp | Packet | CodedPacket:
    """Reads a binary message from a client. Raises ProtocolError for anything that docs/protocol.md
    does not allow. Code values need no check, since 10 bits cannot hold a wrong one."""
    reader = Reader(data)
    kind = reader.kind()
    if kind == MessageType.PCM_UP:
        _, flags, form, zero, sequence, timestamp = reader.unpack(PCM_UP_LAYOUT)
        reader.zero(zero)
        pcm_format = _PCM_FORMATS.get(form)
        if pcm_format is None:
            raise ProtocolError(f"unknown PCM format {form}")
        trace = reader.trace(flags)
        samples = reader.rest()
        width = pcm_format.sample_bytes
        if len(samples) % width or len(samples) > MAX_PCM_SAMPLES * width:
            raise ProtocolError(f"{len(samples)} bytes of PCM: at most {MAX_PCM_SAMPLES} samples of {width} bytes")
        return PcmUp(pcm_format, sequence, timestamp, samples, trace)
    if kind == MessageType.CODES_UP:
        _, flags, n_q, frames, sequence, timestamp = reader.unpack(CODES_UP_LAYOUT)
        if flags & CODED_FLAG:
            trace, payload = reader.coded(n_q, frames, flags, None)
            return CodedPacket(n_q, frames, sequence, timestamp, payload, bool(flags & ANEW_FLAG), trace)
        trace, scale, payload = reader.codes(n_q, frames, flags)
        reader.end()
        return Packet(n_q, frames, sequence, timestamp, payload, trace, scale=scale)
    raise ProtocolError(f"unknown binary message type {kind} from a client")


def encode_codes_down(packets: Sequence[Packet | CodedPacket]) -> bytes:
    """Writes the packets of all speakers, at most 255, as one message."""
    parts = [DOWN_LAYOUT.pack(MessageType.CODES_DOWN, len(packets))]
    for packet in packets:
        parts += packet_entry(packet)
    return b"".join(parts)


def packet_entry(p: Packet | CodedPacket) -> tuple[bytes, bytes]:
    """Writes an entry of codes down: its header, and what follows it."""
    size = len(p.payload) if isinstance(p, CodedPacket) else 0
    header = CODES_ENTRY_LAYOUT.pack(p.source, _packet_flags(p), p.n_q, p.frames, size, p.sequence, p.timestamp)
    return header, _after_header(p)


def encode_pcm_down(blocks: Sequence[PcmBlock]) -> bytes:
    """Writes the samples of all speakers, at most 255, as one message."""
    parts = [DOWN_LAYOUT.pack(MessageType.PCM_DOWN, len(blocks))]
    for b in blocks:
        parts.append(PCM_ENTRY_LAYOUT.pack(b.source, len(b.data) // 2, _flags(b.trace), 0, b.sequence, b.timestamp))
        parts += [_trace_bytes(b.trace), b.data]
    return b"".join(parts)


def decode_down(data: bytes) -> list[Packet | CodedPacket] | list[PcmBlock]:
    """Reads a binary message from a server. Raises ProtocolError for anything that docs/protocol.md
    does not allow."""
    reader = Reader(data)
    kind, entries = reader.unpack(DOWN_LAYOUT)
    if kind == MessageType.CODES_DOWN:
        packets = [read_packet(reader) for _ in range(entries)]
        reader.end()
        return packets
    if kind == MessageType.PCM_DOWN:
        blocks = [_read_block(reader) for _ in range(entries)]
        reader.end()
        return blocks
    raise ProtocolError(f"unknown binary message type {kind} from a server")


def read_packet(reader: Reader) -> Packet | CodedPacket:
    """Reads an entry of codes down. Raises ProtocolError."""
    source, flags, n_q, frames, size, sequence, timestamp = reader.unpack(CODES_ENTRY_LAYOUT)
    if flags & CODED_FLAG:
        trace, payload = reader.coded(n_q, frames, flags, size)
        return CodedPacket(n_q, frames, sequence, timestamp, payload, bool(flags & ANEW_FLAG), trace, source)
    reader.zero(size)
    trace, scale, payload = reader.codes(n_q, frames, flags)
    return Packet(n_q, frames, sequence, timestamp, payload, trace, source, scale)


def _read_block(reader: Reader) -> PcmBlock:
    source, samples, flags, zero, sequence, timestamp = reader.unpack(PCM_ENTRY_LAYOUT)
    reader.zero(zero)
    if samples > MAX_PCM_SAMPLES:
        raise ProtocolError(f"{samples} samples in a block: at most {MAX_PCM_SAMPLES} are allowed")
    trace = reader.trace(flags)
    return PcmBlock(source, sequence, timestamp, reader.take(2 * samples), trace)
