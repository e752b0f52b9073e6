"""Aligns the records of one speaker with the server's clock. This module uses no clock and no file.

A speaker's timestamps count its samples evenly. Only the arrival of its frames shows when it began
to count, and how fast its sound card is. The frame with the shortest way to the server shows it
best, so a record is aligned by the fastest frame within LOOK_S of it. Sound is moved only in
pauses, or if it is off by a whole frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from earshot.codec.pcm import Pcm
from earshot.protocol.sequence import TIMESTAMP_MODULUS, unwrap
from earshot.recording.format import TICK_US, Spoken

LOOK_S = 10.0
MOST_WAITING = 4096
"""Most records of a speaker that may wait: more than come in twice LOOK_S if each holds one
frame."""
EARLY_S = 3.0
"""Most that a record may be earlier than its arrival says. A speaker whose count makes no sense
stays within this."""
FADE_S = 0.005
"""Length of the fades where speech begins, ends or is moved; they prevent clicks."""


@dataclass(frozen=True)
class AlignedRecord:
    """A record with its position in the recording, in samples, and how many of its first samples
    are skipped because they would overlap with the record before."""

    record: Spoken
    position: int
    skip: int = 0


@dataclass
class _Waiting:
    record: Spoken
    count: int
    """Timestamp of the record without wrapping."""
    start: int
    """Start of the record, in samples of the recording."""

    @property
    def offset(self) -> int:
        return self.start - self.count


class Aligner:
    """Takes the records of one speaker in the order of the recording, and returns them LOOK_S later
    with their positions. They never overlap."""

    def __init__(self, sample_rate: int, hop: int) -> None:
        self._hop, self._sample_rate = hop, sample_rate
        self._look, self._early = round(LOOK_S * sample_rate), round(EARLY_S * sample_rate)
        self._waiting: deque[_Waiting] = deque()
        self._passed: deque[_Waiting] = deque()
        self._count: int | None = None
        self._due: int | None = None
        """Count at which the next record continues without a gap."""
        self._offset = 0
        self._end: int | None = None

    @property
    def waiting(self) -> int:
        """Records that were added and not yet taken."""
        return len(self._waiting)

    def add(self, record: Spoken) -> None:
        if self._count is None:
            self._count = record.timestamp
        else:
            self._count = unwrap(record.timestamp, self._count, TIMESTAMP_MODULUS)
        start = record.start * self._sample_rate * TICK_US // 1_000_000
        self._waiting.append(_Waiting(record, self._count, start))

    def take(self, now: int | None) -> Iterator[AlignedRecord]:
        """Yields the records that can be aligned when the recording has been read up to sample
        `now`, or all of them if it is None. A position is at most a frame after the record's
        `start` and at most EARLY_S before it, but never before the end of the previous record."""
        while self._waiting and (
            now is None or self._waiting[0].start <= now - self._look or len(self._waiting) > MOST_WAITING
        ):
            yield self._align(self._waiting.popleft())

    def _align(self, here: _Waiting) -> AlignedRecord:
        while self._passed and self._passed[0].start < here.start - self._look:
            self._passed.popleft()
        near = (other for other in (*self._passed, *self._waiting) if abs(other.start - here.start) <= self._look)
        best = max(min((other.offset for other in near), default=here.offset), here.offset - self._early)
        best = min(best, here.offset)
        if self._due is None or here.count != self._due or abs(best - self._offset) > self._hop:
            self._offset = best
        position, length = here.count + self._offset, here.record.frames * self._hop
        skip = 0 if self._end is None else min(max(self._end - position, 0), length)
        self._passed.append(here)
        self._due = here.count + length
        self._end = position + length if self._end is None else max(position + length, self._end)
        return AlignedRecord(here.record, position, skip)


class Fader:
    """Fades the sound of one speaker in and out where it is not continuous. The last FADE_S wait
    for what follows."""

    def __init__(self, sample_rate: int) -> None:
        size = round(FADE_S * sample_rate)
        self._ramp: Pcm = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
        self._tail: Pcm = np.zeros(0, np.float32)
        self._end: int | None = None
        """Position after the tail."""

    def push(self, position: int, pcm: Pcm, moved: bool) -> Iterator[tuple[int, Pcm]]:
        """Takes samples [n] at `position`, which is not before the end of the previous samples.
        `moved` says that samples between them were left out. Yields (position, samples) to
        write."""
        if not pcm.size:
            return
        if position != self._end or moved:
            yield from self.end()
            size = min(self._ramp.size, pcm.size)
            pcm = np.concatenate([pcm[:size] * self._ramp[:size], pcm[size:]])
        start = position - self._tail.size
        whole = np.concatenate([self._tail, pcm])
        keep = min(self._ramp.size, whole.size)
        self._tail, self._end = whole[whole.size - keep :], position + pcm.size
        if whole.size > keep:
            yield start, whole[: whole.size - keep]

    def end(self) -> Iterator[tuple[int, Pcm]]:
        """Ends the sound: yields the tail, faded out."""
        if self._end is not None and self._tail.size:
            ramp = self._ramp[self._tail.size - 1 :: -1]
            yield self._end - self._tail.size, self._tail * ramp
        self._tail = np.zeros(0, np.float32)
