"""Makes recordings without a server, from the same parts as a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from earshot.codec.bitstream import pack
from earshot.codec.config import ModelConfig
from earshot.codec.model.model import Model
from earshot.protocol.packet import Packet
from earshot.protocol.sequence import SEQUENCE_MODULUS, TIMESTAMP_MODULUS
from earshot.recording.format import Event, Header, Item, Reader, Spoken, encode_event, encode_header
from earshot.server.core.recording_buffer import RecordingBuffer
from earshot.server.recording.recorder import FLUSH_S

SALT = 0x5EED
HOP = 320
FRAME_US = HOP * 1_000_000 / 24_000


def header(model: Model, **changes: Any) -> Header:
    config: ModelConfig = model.config
    return Header(
        **{
            "room": "den",
            "model": config.name,
            "digest": model.digest,
            "sample_rate": config.sample_rate,
            "hop_length": config.hop_length,
            "n_codebooks": config.n_codebooks,
            "began": "2026-11-24T09:15:00.000+00:00",
            "salt": SALT,
            **changes,
        }
    )


def packets(codes: np.ndarray, timestamp: int = 0) -> Iterator[Packet]:
    """Returns codes [n_q, frames] as packets of one frame."""
    for index in range(codes.shape[1]):
        yield Packet(
            codes.shape[0],
            1,
            index % SEQUENCE_MODULUS,
            (timestamp + index * HOP) % TIMESTAMP_MODULUS,
            pack(codes[:, index : index + 1]),
        )


def record(
    model: Model,
    arrivals: Iterable[tuple[int, int, Packet | Event]],
    end: str | None = "everyone had left",
    **changes: Any,
) -> bytes:
    """Writes the recording that a server that flushes every FLUSH_S makes of events (microseconds
    after the beginning, speaker, item) in order of time; without its end if `end` is None.
    `changes` are fields of its header."""
    buffer, parts = RecordingBuffer(model.config, 0), [encode_header(header(model, **changes))]
    due, now = FLUSH_S * 1e6, 0
    for now, speaker, what in arrivals:
        while now >= due:
            batch = buffer.take(int(due))
            parts += [batch.encode(SALT)] if batch else []
            due += FLUSH_S * 1e6
        if isinstance(what, Event):
            buffer.note(what, now)
        else:
            buffer.add(speaker, what, now)
    batch = buffer.take(now)
    parts += [batch.encode(SALT)] if batch else []
    if end is not None:
        parts.append(encode_event(Event(type="ended", at=now // 100, reason=end), SALT))
    return b"".join(parts)


def talk(speaker: int, codes: np.ndarray, begin_us: float, timestamp: int = 0) -> list[tuple[int, int, Packet]]:
    """Returns the events of a speaker whose frames arrive when they have been spoken; the first
    sample is spoken at `begin_us`."""
    return [
        (round(begin_us + (index + 1) * FRAME_US), speaker, packet)
        for index, packet in enumerate(packets(codes, timestamp))
    ]


def read(data: bytes, piece: int = 1 << 16) -> list[Item]:
    reader, items = Reader(), []
    for at in range(0, len(data), piece):
        items += list(reader.feed(data[at : at + piece]))
    return items + list(reader.close())


def codes_of(items: Iterable[Item], speaker: int) -> dict[int, np.ndarray]:
    """Returns the codes [n_q] of every frame of a speaker, by timestamp."""
    return {
        (item.timestamp + index * HOP) % TIMESTAMP_MODULUS: item.codes()[:, index]
        for item in items
        if isinstance(item, Spoken) and item.speaker == speaker
        for index in range(item.frames)
    }


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
