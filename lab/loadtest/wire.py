"""Bytes of a load-test client: messages of PCM that need no work to send, and a reader that looks
at no code.

A generator shares the cores with the server that it tests, so it may cost only a few microseconds a
message: the WebSocket frame around the PCM stands ready, and of what a listener gets only sequence
and trace are read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.packet import MessageType, PcmFormat
from earshot.protocol.sequence import CLOCK_MODULUS, SEQUENCE_MODULUS, TIMESTAMP_MODULUS

FRAME_TICKS = 133
"""A frame in ticks of the trace (0.1 ms): so long after its first sample its last one is there."""
CLOSE, PING, PONG, TEXT, BINARY = 0x88, 0x89, 0x8A, 0x81, 0x82
_MASKED, _LENGTH_16, _LENGTH_64 = 0x80, 126, 127
_NO_MASK = bytes(4)
"""A key that changes nothing; the server undoes it like any other."""
_HEAD = struct.Struct("<BBBBHII4H")
_ENTRY = struct.Struct("<HBBBBHI")
_TRACE = struct.Struct("<I4H")
_TRACED = 1


class Utterance:
    """One speaker's messages: s16 PCM with a trace, a frame each, made from `pcm` again and
    again."""

    def __init__(self, pcm: bytes, hop: int, start: int) -> None:
        """`pcm` is s16 samples, cut to whole frames; the first message holds frame number
        `start`."""
        self._size = 2 * hop
        self._hop = hop
        self._pcm = memoryview(pcm)[: len(pcm) // self._size * self._size]
        self._at = start * self._size % len(self._pcm)
        self._sent = 0
        payload = _HEAD.size + self._size
        self._head_at = 8
        self._message = bytearray(self._head_at + payload)
        struct.pack_into(">BBH4s", self._message, 0, BINARY, _MASKED | _LENGTH_16, payload, _NO_MASK)

    def next(self, now_us: int, frame_us: int) -> bytearray:
        """The next message as WebSocket bytes, whose last sample was spoken now; good until the
        next call."""
        captured = (now_us - frame_us) % CLOCK_MODULUS
        sequence, timestamp = self._sent % SEQUENCE_MODULUS, self._sent * self._hop % TIMESTAMP_MODULUS
        fields = (MessageType.PCM_UP, _TRACED, PcmFormat.S16, 0, sequence, timestamp, captured, FRAME_TICKS, 0, 0, 0)
        _HEAD.pack_into(self._message, self._head_at, *fields)
        self._message[self._head_at + _HEAD.size :] = self._pcm[self._at : self._at + self._size]
        self._at = (self._at + self._size) % len(self._pcm)
        self._sent += 1
        return self._message

    @property
    def sent(self) -> int:
        return self._sent


def client_frame(opcode: int, payload: bytes) -> bytes:
    """A whole WebSocket frame from a client, of a payload that a control frame or a hello may
    have."""
    size = len(payload)
    head = (
        struct.pack(">BB", opcode, _MASKED | size)
        if size < _LENGTH_16
        else struct.pack(">BBH", opcode, _MASKED | _LENGTH_16, size)
    )
    return head + _NO_MASK + payload


class Inbox:
    """Cuts what a server sends into WebSocket frames, however it arrives."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(first byte of the frame, payload) of each frame that is whole now."""
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
    """What a listener is told of a packet; times in ticks since its first frame was spoken, None
    without a trace."""

    source: int
    sequence: int
    frames: int
    times: tuple[int, int, int, int] | None
    """framed, encoded, received, relayed"""


def arrivals(message: bytes) -> list[Arrival]:
    """The packets of a message of codes. Raises ProtocolError for other messages, and for what is
    cut short."""
    if len(message) < 2 or message[0] != MessageType.CODES_DOWN:
        raise ProtocolError(f"a message of codes was expected, not {message[:2].hex() or 'nothing'}")
    found, at = [], 2
    try:
        for _ in range(message[1]):
            source, flags, n_q, frames, _, sequence, _ = _ENTRY.unpack_from(message, at)
            at += _ENTRY.size
            times = None
            if flags & _TRACED:
                _, framed, encoded, received, relayed = _TRACE.unpack_from(message, at)
                times = (framed, encoded, received, relayed)
                at += _TRACE.size
            at += (n_q * frames * 10 + 7) // 8
            found.append(Arrival(source, sequence, frames, times))
    except struct.error as error:
        raise ProtocolError(f"a message of codes is cut short: {error}") from error
    if at != len(message):
        raise ProtocolError(f"a message of codes is {len(message)} bytes long, not {at}")
    return found
