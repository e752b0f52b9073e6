"""Bytes of a load-test client: PCM messages that cost little to make, and a reader that does not
unpack codes.

A generator shares the cores with the server that it tests, so a message may cost it only a few
microseconds. It therefore makes the WebSocket frame around the PCM once and changes it in place,
and of what a listener gets it reads only sequence and trace. The layouts are those of
protocol/packet.py."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from earshot.codec.bitstream import packed_size
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.packet import (
    CODES_ENTRY_LAYOUT,
    DOWN_LAYOUT,
    PCM_UP_LAYOUT,
    TRACE_FLAG,
    TRACE_LAYOUT,
    MessageType,
    PcmFormat,
)
from earshot.protocol.sequence import CLOCK_MODULUS, SEQUENCE_MODULUS, TIMESTAMP_MODULUS

FRAME_TICKS = 133
"""Ticks of the trace (0.1 ms) from the first sample of a frame to its last."""
CLOSE, PING, PONG, TEXT, BINARY = 0x88, 0x89, 0x8A, 0x81, 0x82
_MASKED, _LENGTH_16, _LENGTH_64 = 0x80, 126, 127
_NO_MASK = bytes(4)
"""A masking key that leaves the payload as it is; the server applies it like any other."""
_TRACED_PCM_UP = struct.Struct(PCM_UP_LAYOUT.format + TRACE_LAYOUT.format.removeprefix("<"))
"""The header of a PCM message and its trace, packed at once."""


class Utterance:
    """The messages of one speaker: a frame of s16 PCM with a trace in each. The sound repeats."""

    def __init__(self, pcm: bytes, hop: int, start: int) -> None:
        """Takes s16 samples, of which it uses whole frames; the first message holds the frame of
        number `start`."""
        self._size = 2 * hop
        self._hop = hop
        self._pcm = memoryview(pcm)[: len(pcm) // self._size * self._size]
        self._at = start * self._size % len(self._pcm)
        self._sent = 0
        payload = _TRACED_PCM_UP.size + self._size
        self._head_at = 8
        self._message = bytearray(self._head_at + payload)
        struct.pack_into(">BBH4s", self._message, 0, BINARY, _MASKED | _LENGTH_16, payload, _NO_MASK)

    def next(self, now_us: int, frame_us: int) -> bytearray:
        """Returns the next message as WebSocket bytes, as if its last sample were spoken now. The
        next call overwrites it."""
        captured = (now_us - frame_us) % CLOCK_MODULUS
        sequence, timestamp = self._sent % SEQUENCE_MODULUS, self._sent * self._hop % TIMESTAMP_MODULUS
        fields = (MessageType.PCM_UP, TRACE_FLAG, PcmFormat.S16, 0, sequence, timestamp, captured, FRAME_TICKS, 0, 0, 0)
        _TRACED_PCM_UP.pack_into(self._message, self._head_at, *fields)
        self._message[self._head_at + _TRACED_PCM_UP.size :] = self._pcm[self._at : self._at + self._size]
        self._at = (self._at + self._size) % len(self._pcm)
        self._sent += 1
        return self._message

    @property
    def sent(self) -> int:
        """Messages so far."""
        return self._sent


def client_frame(opcode: int, payload: bytes) -> bytes:
    """Returns a WebSocket frame of a client. The payload has at most 65,535 bytes."""
    size = len(payload)
    head = (
        struct.pack(">BB", opcode, _MASKED | size)
        if size < _LENGTH_16
        else struct.pack(">BBH", opcode, _MASKED | _LENGTH_16, size)
    )
    return head + _NO_MASK + payload


class Inbox:
    """Splits what a server sends into WebSocket frames, in whatever pieces it arrives."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yields (first byte of the frame, payload) of each frame that is complete by now."""
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        while end - at >= 2:
            size, body = data[at + 1], at + 2
            if size == _LENGTH_16:
                body, size = at + 4, int.from_bytes(data[at + 2 : at + 4], "big")
            elif size == _LENGTH_64:
                body, size = at + 10, int.from_bytes(data[at + 2 : at + 10], "big")
            if end - body < size:
                break
            yield data[at], data[body : body + size]
            at = body + size
        self._rest = data[at:]


@dataclass(frozen=True)
class Arrival:
    """What a listener learns about a packet that came."""

    source: int
    sequence: int
    frames: int
    times: tuple[int, int, int, int] | None
    """The times framed, encoded, received and relayed, in ticks since the first frame was spoken;
    None if the packet has no trace."""


def arrivals(message: bytes) -> list[Arrival]:
    """Returns the packets of a message of codes. Raises ProtocolError for other messages, and for
    a message that is too short or too long."""
    if len(message) < DOWN_LAYOUT.size or message[0] != MessageType.CODES_DOWN:
        raise ProtocolError(f"a message of codes was expected, not {message[:2].hex() or 'nothing'}")
    found, at = [], DOWN_LAYOUT.size
    try:
        for _ in range(message[1]):
            source, flags, n_q, frames, _, sequence, _ = CODES_ENTRY_LAYOUT.unpack_from(message, at)
            at += CODES_ENTRY_LAYOUT.size
            times = None
            if flags & TRACE_FLAG:
                _, framed, encoded, received, relayed = TRACE_LAYOUT.unpack_from(message, at)
                times = (framed, encoded, received, relayed)
                at += TRACE_LAYOUT.size
            at += packed_size(n_q, frames)
            found.append(Arrival(source, sequence, frames, times))
    except struct.error as error:
        raise ProtocolError(f"a message of codes is cut short: {error}") from error
    if at != len(message):
        raise ProtocolError(f"a message of codes is {len(message)} bytes long, not {at}")
    return found
