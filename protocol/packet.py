"""Binary messages of the protocol (docs/protocol.md, "Media"): bytes to dataclasses and back.
Little endian throughout.

Sequence numbers count frames (PCM up: messages) modulo 2^16; timestamps count samples modulo 2^32;
times are the server's clock in microseconds modulo 2^32."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from earshot.codec.bitstream import cut, packed_size, unpack
from earshot.codec.errors import DataError
from earshot.codec.pcm import MOST_SCALE
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.sequence import CLOCK_MODULUS

MAX_FRAMES = 32
"""Frames in one packet at most (0.43 s)."""
MAX_WINDOW_FRAMES = 255
"""Frames in a packet that is a whole window, at most."""
MAX_CODED_FRAMES = 8
"""Frames in an entropy-coded packet at most, so that whoever decodes one is soon done."""
MAX_CODED_BYTES = 255
"""Of the codes of one."""
MAX_CODEBOOKS = 32
MAX_PCM_SAMPLES = 24_000
"""Samples in one PCM message at most (1 s)."""
MAX_MESSAGE_BYTES = 1 << 17


class MessageType(IntEnum):
    PCM_UP = 1
    CODES_UP = 2
    CODES_DOWN = 3
    PCM_DOWN = 4


class PcmFormat(IntEnum):
    S16 = 0
    F32 = 1

    @property
    def sample_bytes(self) -> int:
        return 2 if self is PcmFormat.S16 else 4


TRACE_TICK_US = 100
_TRACE, _WINDOW, _CODED, _ANEW = 1, 2, 4, 8
_TRACE_FORMAT = struct.Struct("<I4H")
_SCALE_FORMAT = struct.Struct("<f")


class Trace(NamedTuple):
    """When things happened to the first frame of a packet.

    `capture_us` is when its first sample was spoken, on the server's clock in microseconds modulo
    2^32. The others are 0.1 ms ticks after that (at most 65535 = 6.6 s), 0 where not yet known:
    `framed`, its last sample was there; `encoded`, its codes were there; `received`, the server had
    the message; `relayed`, the server passed it on."""

    capture_us: int
    framed: int = 0
    encoded: int = 0
    received: int = 0
    relayed: int = 0

    def ticks_at(self, clock_us: int) -> int:
        """Ticks from capture to a reading of the server's clock, limited to what fits."""
        elapsed = (clock_us - self.capture_us) % CLOCK_MODULUS
        if elapsed >= CLOCK_MODULUS // 2:  # it is before that
            return 0
        return min(elapsed // TRACE_TICK_US, 0xFFFF)

    # Made anew for every frame of every speaker: by name and not by `_replace`, which takes twice
    # as long.

    def received_at(self, clock_us: int) -> Trace:
        return Trace(self.capture_us, self.framed, self.encoded, self.ticks_at(clock_us), self.relayed)

    def encoded_at(self, clock_us: int) -> Trace:
        return Trace(self.capture_us, self.framed, self.ticks_at(clock_us), self.received, self.relayed)

    def relayed_at(self, clock_us: int) -> Trace:
        return Trace(self.capture_us, self.framed, self.encoded, self.received, self.ticks_at(clock_us))

    def to_bytes(self) -> bytes:
        return _TRACE_FORMAT.pack(self.capture_us, self.framed, self.encoded, self.received, self.relayed)


class Packet(NamedTuple):
    """`frames` frames of codes of one source. `payload` is what `bitstream.pack` makes of [n_q,
    frames]."""

    n_q: int
    frames: int
    sequence: int
    """Number of the first frame, modulo 2^16; a gap means frames that were lost or dropped."""
    timestamp: int
    """Position of the first sample, modulo 2^32; a gap without one in `sequence` is silence that
    was not sent."""
    payload: bytes
    trace: Trace | None = None
    source: int = 0
    """Peer id of the speaker; 0 on the way up, where it is known."""
    scale: float | None = None
    """Of a packet that is one whole window of a model that codes in windows: what its samples are
    multiplied by (1 if the model leaves volume alone), a 32-bit float. None for packets of
    frames."""

    def cut(self, n_q: int) -> Packet:
        """This packet at the rate of `n_q` codebooks; itself if it has no more."""
        if n_q >= self.n_q:
            return self
        return self._replace(n_q=n_q, payload=cut(self.payload, self.frames, n_q))

    def of(self, source: int, trace: Trace | None) -> Packet:
        """The same codes, said to be of this speaker, with this trace."""
        return Packet(self.n_q, self.frames, self.sequence, self.timestamp, self.payload, trace, source, self.scale)


class CodedPacket(NamedTuple):
    """A packet of frames whose codes are entropy-coded; protocol/entropy_link.py makes and reads
    them. Who has no language model can do nothing with one."""

    n_q: int
    frames: int
    sequence: int
    timestamp: int
    payload: bytes
    """One arithmetic code of the codebooks that the language model knows, then the others as
    `bitstream.pack` makes them; where the first ends the model says."""
    anew: bool = False
    """Whether this speaker's stream begins anew with it."""
    trace: Trace | None = None
    source: int = 0
    scale: None = None
    """Windows are not entropy-coded."""


class PcmUp(NamedTuple):
    """Microphone samples, any number of them. `sequence` counts messages."""

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
_PCM_UP = struct.Struct("<BBBBHI")
_CODES_UP = struct.Struct("<BBBBHI")
_DOWN = struct.Struct("<BB")
_CODES_ENTRY = struct.Struct("<HBBBBHI")
_PCM_ENTRY = struct.Struct("<HHBBHI")


class _Reader:
    """Takes a message apart from the front; every shortage is a ProtocolError."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def kind(self) -> int:
        """The first byte, which is part of the header that follows."""
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

    def trace(self, flags: int, known: int = _TRACE) -> Trace | None:
        if flags & ~known:
            raise ProtocolError(f"unknown flags {flags:#x}")
        return Trace(*self.unpack(_TRACE_FORMAT)) if flags & _TRACE else None

    def codes(self, n_q: int, frames: int, flags: int) -> tuple[Trace | None, float | None, bytes]:
        """What follows the header of a packet of codes: its trace, its scale if it is a window, its
        payload."""
        most = MAX_WINDOW_FRAMES if flags & _WINDOW else MAX_FRAMES
        if not 1 <= n_q <= MAX_CODEBOOKS or not 1 <= frames <= most:
            raise ProtocolError(f"{n_q} codebooks x {frames} frames: 1..{MAX_CODEBOOKS} x 1..{most} are allowed")
        trace = self.trace(flags, _TRACE | _WINDOW)
        scale = None
        if flags & _WINDOW:
            (scale,) = _SCALE_FORMAT.unpack(self.take(_SCALE_FORMAT.size))
            if not 0 <= scale <= MOST_SCALE:
                raise ProtocolError(f"the scale of a window is {scale}: 0..{MOST_SCALE:g} is allowed")
        payload = self.take(packed_size(n_q, frames))
        try:
            unpack(payload, n_q, frames)
        except DataError as error:
            raise ProtocolError(str(error)) from error
        return trace, scale, payload

    def coded(self, n_q: int, frames: int, flags: int, size: int | None) -> tuple[Trace | None, bytes]:
        """The same of an entropy-coded packet: its trace and its payload, all that is left if no
        size was given."""
        if not 1 <= n_q <= MAX_CODEBOOKS or not 1 <= frames <= MAX_CODED_FRAMES:
            most = f"1..{MAX_CODEBOOKS} x 1..{MAX_CODED_FRAMES}"
            raise ProtocolError(f"{n_q} codebooks x {frames} frames, entropy-coded: {most} are allowed")
        trace = self.trace(flags, _TRACE | _CODED | _ANEW)
        payload = self.rest() if size is None else self.take(size)
        if len(payload) > MAX_CODED_BYTES:
            raise ProtocolError(f"{len(payload)} bytes of entropy-coded codes: at most {MAX_CODED_BYTES}")
        return trace, payload

    def zero(self, value: int) -> None:
        """A byte that docs/protocol.md names `0`: kept free for later versions."""
        if value:
            raise ProtocolError(f"a byte that must be zero is {value}")

    def end(self) -> None:
        if self.at != len(self.data):
            raise ProtocolError(f"{len(self.data) - self.at} bytes after the end of the message")


def _flags(trace: Trace | None) -> int:
    return 0 if trace is None else _TRACE


def _packet_flags(packet: Packet | CodedPacket) -> int:
    flags = _flags(packet.trace)
    if isinstance(packet, CodedPacket):
        return flags | _CODED | _ANEW * packet.anew
    return flags if packet.scale is None else flags | _WINDOW


def _trace_bytes(trace: Trace | None) -> bytes:
    return b"" if trace is None else trace.to_bytes()


def _after_header(packet: Packet | CodedPacket) -> bytes:
    if packet.scale is None:
        return _trace_bytes(packet.trace) + packet.payload
    return _trace_bytes(packet.trace) + _SCALE_FORMAT.pack(packet.scale) + packet.payload


def encode_pcm_up(message: PcmUp) -> bytes:
    header = _PCM_UP.pack(
        MessageType.PCM_UP, _flags(message.trace), message.format, 0, message.sequence, message.timestamp
    )
    return header + _trace_bytes(message.trace) + message.data


def encode_codes_up(packet: Packet | CodedPacket) -> bytes:
    flags = _packet_flags(packet)
    header = _CODES_UP.pack(MessageType.CODES_UP, flags, packet.n_q, packet.frames, packet.sequence, packet.timestamp)
    return header + _after_header(packet)


def decode_up(data: bytes) -> PcmUp | Packet | CodedPacket:
    """A binary message from a client. Raises ProtocolError for anything that docs/protocol.md does
    not allow; code values need no check, since 10 bits cannot hold a wrong one."""
    reader = _Reader(data)
    kind = reader.kind()
    if kind == MessageType.PCM_UP:
        _, flags, form, zero, sequence, timestamp = reader.unpack(_PCM_UP)
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
        _, flags, n_q, frames, sequence, timestamp = reader.unpack(_CODES_UP)
        if flags & _CODED:
            trace, payload = reader.coded(n_q, frames, flags, None)
            return CodedPacket(n_q, frames, sequence, timestamp, payload, bool(flags & _ANEW), trace)
        trace, scale, payload = reader.codes(n_q, frames, flags)
        reader.end()
        return Packet(n_q, frames, sequence, timestamp, payload, trace, scale=scale)
    raise ProtocolError(f"unknown binary message type {kind} from a client")


def encode_codes_down(packets: Sequence[Packet | CodedPacket]) -> bytes:
    """The packets of all speakers of a tick, at most 255, as one message."""
    parts = [_DOWN.pack(MessageType.CODES_DOWN, len(packets))]
    for p in packets:
        size = len(p.payload) if isinstance(p, CodedPacket) else 0
        parts.append(_CODES_ENTRY.pack(p.source, _packet_flags(p), p.n_q, p.frames, size, p.sequence, p.timestamp))
        parts.append(_after_header(p))
    return b"".join(parts)


def encode_pcm_down(blocks: Sequence[PcmBlock]) -> bytes:
    """The samples of all speakers of a tick, at most 255, as one message."""
    parts = [_DOWN.pack(MessageType.PCM_DOWN, len(blocks))]
    for b in blocks:
        parts.append(_PCM_ENTRY.pack(b.source, len(b.data) // 2, _flags(b.trace), 0, b.sequence, b.timestamp))
        parts += [_trace_bytes(b.trace), b.data]
    return b"".join(parts)


def encode_down(media: Sequence[Packet | CodedPacket | PcmBlock]) -> list[bytes]:
    """What goes to a listener now: a message of all codes, one of all PCM, or none."""
    packets = [part for part in media if not isinstance(part, PcmBlock)]
    blocks = [part for part in media if isinstance(part, PcmBlock)]
    return ([encode_codes_down(packets)] if packets else []) + ([encode_pcm_down(blocks)] if blocks else [])


def decode_down(data: bytes) -> list[Packet | CodedPacket] | list[PcmBlock]:
    """A binary message from the server. Raises ProtocolError for anything that docs/protocol.md
    does not allow."""
    reader = _Reader(data)
    kind, entries = reader.unpack(_DOWN)
    if kind == MessageType.CODES_DOWN:
        packets = [_read_packet(reader) for _ in range(entries)]
        reader.end()
        return packets
    if kind == MessageType.PCM_DOWN:
        blocks = [_read_block(reader) for _ in range(entries)]
        reader.end()
        return blocks
    raise ProtocolError(f"unknown binary message type {kind} from a server")


def _read_packet(reader: _Reader) -> Packet | CodedPacket:
    source, flags, n_q, frames, size, sequence, timestamp = reader.unpack(_CODES_ENTRY)
    if flags & _CODED:
        trace, payload = reader.coded(n_q, frames, flags, size)
        return CodedPacket(n_q, frames, sequence, timestamp, payload, bool(flags & _ANEW), trace, source)
    reader.zero(size)
    trace, scale, payload = reader.codes(n_q, frames, flags)
    return Packet(n_q, frames, sequence, timestamp, payload, trace, source, scale)


def _read_block(reader: _Reader) -> PcmBlock:
    source, samples, flags, zero, sequence, timestamp = reader.unpack(_PCM_ENTRY)
    reader.zero(zero)
    if samples > MAX_PCM_SAMPLES:
        raise ProtocolError(f"{samples} samples in a block: at most {MAX_PCM_SAMPLES} are allowed")
    trace = reader.trace(flags)
    return PcmBlock(source, sequence, timestamp, reader.take(2 * samples), trace)
