"""What is recorded of a room between two writes, and the records that it becomes. No clock, no
file, no thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from earshot.codec.bitstream import join
from earshot.codec.config import ModelConfig
from earshot.protocol.packet import Packet
from earshot.protocol.sequence import TIMESTAMP_MODULUS
from earshot.recording.format import MAX_FRAMES, Event, Spoken, clamp_ticks, encode_event, encode_spoken

EVENT_BYTES = 64
"""What an event takes in memory and on disk, roughly; for bounds."""
MAX_EVENTS = 256
"""Events that wait at most while nothing can be written."""

_Arrived = tuple[Packet, int]
"""A packet and when it came, in microseconds after the beginning."""


@dataclass
class Batch:
    """What came between two writes. It is filled by one thread and then made into bytes by
    another."""

    hop: int
    sample_rate: int
    events: list[Event] = field(default_factory=list)
    spoken: dict[int, list[_Arrived]] = field(default_factory=dict)
    size: int = 0
    """Size in bytes, roughly."""
    frames: int = 0
    lost: int = 0
    """Frames before these that could not be written."""
    at: int = 0
    """When it was taken, in ticks after the beginning."""

    def encode(self, salt: int) -> bytes:
        """Events first: who speaks is then known by name."""
        records = [encode_event(event, salt) for event in self.events]
        if self.lost:
            records.append(encode_event(Event(type="lost", at=self.at, frames=self.lost), salt))
        for speaker, packets in self.spoken.items():
            records += [encode_spoken(self._record(speaker, run), salt) for run in _runs(packets, self.hop)]
        return b"".join(records)

    def _record(self, speaker: int, run: list[_Arrived]) -> Spoken:
        frames, start_us = 0, run[0][1]
        for packet, arrived_us in run:
            frames += packet.frames
            start_us = min(start_us, arrived_us - frames * self.hop * 1_000_000 // self.sample_rate)
        first = run[0][0]
        payload = join([(packet.payload, packet.frames) for packet, _ in run], first.n_q)
        return Spoken(speaker, first.n_q, frames, first.timestamp, clamp_ticks(start_us), payload)


def _runs(packets: list[_Arrived], hop: int) -> Iterator[list[_Arrived]]:
    """Parts that one record can hold: no gaps, one number of codebooks, not too long."""
    run: list[_Arrived] = []
    frames = 0
    for arrived in packets:
        packet = arrived[0]
        if run:
            first = run[0][0]
            due = (first.timestamp + frames * hop) % TIMESTAMP_MODULUS
            if packet.timestamp != due or packet.n_q != first.n_q or frames + packet.frames > MAX_FRAMES:
                yield run
                run, frames = [], 0
        run.append(arrived)
        frames += packet.frames
    if run:
        yield run


class RecordingBuffer:
    """Collects what is said in a room. `now_us` is the server's clock; `max_n_q` cuts what is
    kept."""

    def __init__(self, config: ModelConfig, began_us: int, max_n_q: int | None = None) -> None:
        self._config, self._began_us, self._max_n_q = config, began_us, max_n_q
        self._batch = self._empty()

    def _empty(self) -> Batch:
        return Batch(self._config.hop_length, self._config.sample_rate)

    def add(self, speaker: int, packet: Packet, now_us: int) -> None:
        """Codes as they came."""
        kept = packet if self._max_n_q is None else packet.cut(self._max_n_q)
        if kept.trace is not None:
            kept = kept._replace(trace=None)
        self._batch.spoken.setdefault(speaker, []).append((kept, now_us - self._began_us))
        self._batch.size += len(kept.payload)
        self._batch.frames += kept.frames

    def note(self, event: Event, now_us: int) -> None:
        """Adds an event, which happened now, whatever its `at` says."""
        self._batch.events.append(event.model_copy(update={"at": clamp_ticks(now_us - self._began_us)}))
        self._batch.size += EVENT_BYTES

    def take(self, now_us: int) -> Batch | None:
        """Returns all that was collected, and begins anew; None if there is nothing."""
        batch = self._batch
        if not batch.events and not batch.spoken and not batch.lost:
            return None
        self._batch = self._empty()
        batch.at = clamp_ticks(now_us - self._began_us)
        return batch

    def give_back(self, batch: Batch) -> None:
        """Takes back what cannot be written. Events are kept for the next try, codes are lost, and
        that is noted."""
        self._batch.lost += batch.lost + batch.frames
        kept = batch.events[: max(0, MAX_EVENTS - len(self._batch.events))]
        self._batch.events[:0] = kept
        self._batch.size += EVENT_BYTES * len(kept)
