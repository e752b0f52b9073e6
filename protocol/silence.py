"""Silence that is not sent (docs/protocol.md, "Silence"): the sign with which a speaker stops
sending, and what the background sounds like meanwhile."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from earshot.protocol.packet import DOWN_LAYOUT, MessageType, Reader

BANDS_HZ = (0, 250, 500, 1000, 2000, 4000, 12_000)
"""Edges of the bands whose levels are told."""
BANDS = len(BANDS_HZ) - 1
NOTHING = 255
"""The level of a band in which there is nothing."""
STEP_DB = 0.5
"""Level 0 is 0 dB of full scale (RMS), and each further one is so much quieter."""
_UP_LAYOUT = struct.Struct("<BBHI")
"""type, 0, sequence, timestamp"""
_ENTRY_LAYOUT = struct.Struct("<HHI")
"""source, sequence, timestamp"""


class Silence(NamedTuple):
    """A speaker says nothing from here on, and goes on with the same sequence number later."""

    sequence: int
    """Number of the frame with which the speaker will go on, modulo 2^16."""
    timestamp: int
    """Position of the first sample that is not sent, modulo 2^32; in a later one of the same
    silence, that of now."""
    levels: bytes
    """The level of each band."""
    source: int = 0
    trace: None = None
    """Nothing is traced."""


def encode_silence_up(silence: Silence) -> bytes:
    """Writes a message of silence from a client."""
    return _UP_LAYOUT.pack(MessageType.SILENCE_UP, 0, silence.sequence, silence.timestamp) + silence.levels


def decode_silence_up(data: bytes) -> Silence:
    """Reads a message of silence from a client. Raises ProtocolError."""
    reader = Reader(data)
    _, zero, sequence, timestamp = reader.unpack(_UP_LAYOUT)
    reader.zero(zero)
    levels = reader.take(BANDS)
    reader.end()
    return Silence(sequence, timestamp, levels)


def encode_silence_down(silences: Sequence[Silence]) -> bytes:
    """Writes the silence of all speakers, at most 255, as one message."""
    parts = [DOWN_LAYOUT.pack(MessageType.SILENCE_DOWN, len(silences))]
    parts += [_ENTRY_LAYOUT.pack(each.source, each.sequence, each.timestamp) + each.levels for each in silences]
    return b"".join(parts)


def decode_silence_down(data: bytes) -> list[Silence]:
    """Reads a message of silence from a server. Raises ProtocolError."""
    reader = Reader(data)
    _, entries = reader.unpack(DOWN_LAYOUT)
    silences = []
    for _ in range(entries):
        source, sequence, timestamp = reader.unpack(_ENTRY_LAYOUT)
        silences.append(Silence(sequence, timestamp, reader.take(BANDS), source))
    reader.end()
    return silences
