"""Play-out of one speaker whose sound comes a second at a time: windows, decoded elsewhere, made an
even stream.

A window that begins a stretch is played `target_us` after it has been decoded; the others may come
later than it did by as much. Nothing is stretched: music would be heard to waver. Where nothing
came the sound fades into silence and begins anew; where more waits than was asked for, a part is
left out."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from earshot.client.core.latency import Path
from earshot.codec.pcm import Pcm

START_TARGET_US, TARGET_STEP_US, MAX_TARGET_US = 150_000, 100_000, 1_000_000
"""How late a window may be; a step more after each underrun."""
SLACK_US = 300_000
"""What may wait beyond the target when the next window comes."""
FADE_S = 0.005
MAX_CHUNKS = 8
SPURT_END_US = 1_500_000
"""Silence after which a speaker that said nothing has stopped, not stalled."""


@dataclass(slots=True, eq=False)
class Chunk:
    """Decoded samples [channels, n] of one speaker, the first at `timestamp` (unwrapped) of its
    timeline."""

    pcm: Pcm
    timestamp: int
    frames: int
    """That the window had."""
    arrival_us: int
    taken_us: int
    """When decoding began."""
    decoded_us: int
    path: Path | None = None
    ends: bool = False
    """Whether the speaker ended here what it said."""
    played: int = 0

    @property
    def left(self) -> int:
        size: int = self.pcm.shape[1]
        return size - self.played


class WindowPlayout:
    """Chunks in (`put`, from any one thread), blocks out (`pull`, from one other)."""

    def __init__(self, channels: int, sample_rate: int) -> None:
        self.target_us = START_TARGET_US
        self.underruns = 0
        self.frames_played = 0
        self.frames_overflow = 0
        self.samples_skipped = 0
        self.samples_silent = 0
        """Without sound of the speaker, since its first window was played."""
        self.delay_us = 0.0
        """From the arrival of the last window to its first sample's play-out."""
        self.level = 0.0
        self._channels, self._sample_rate = channels, sample_rate
        self._fade = round(FADE_S * sample_rate)
        self._incoming: deque[Chunk] = deque()
        self._chunks: deque[Chunk] = deque()
        self._playing = self._begun = self._announced = False
        self._next: int | None = None
        self._starved_us: int | None = None
        self._rising = 0
        self._falling = False

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing plays."""
        return not self._incoming and not self._chunks

    @property
    def frames_waiting(self) -> int:
        return sum(chunk.frames for chunk in (*self._incoming.copy(), *self._chunks.copy()) if not chunk.played)

    def put(self, chunk: Chunk) -> None:
        """The samples that come next in time; the oldest are lost if nobody takes them."""
        if len(self._incoming) >= MAX_CHUNKS:
            self.frames_overflow += self._incoming.popleft().frames
        self._incoming.append(chunk)

    def announce_silence(self, silent: bool) -> None:
        """The speaker muted itself or left (True), or is back (False): what does not come is no
        underrun."""
        self._announced = silent

    def pull(self, n: int, now_us: int) -> tuple[Pcm, list[tuple[int, Chunk]]]:
        """The next samples [channels, n], taken by the device at `now_us`, and the chunks that
        begin in it, with the index of their first sample."""
        while self._incoming:
            self._admit(self._incoming.popleft())
        out = np.zeros((self._channels, n), np.float32)
        started: list[tuple[int, Chunk]] = []
        filled = silent = 0
        ended = False
        while filled < n and self._chunks:
            head = self._chunks[0]
            if self._playing and not head.played and head.timestamp != self._next:
                self._playing = False
            if not self._playing:
                wait = max(math.ceil((head.decoded_us + self.target_us - now_us) * self._sample_rate / 1e6) - filled, 0)
                wait = min(wait, n - filled)
                filled, silent = filled + wait, silent + wait
                if filled == n:
                    break
                self._begin(head)
            if not head.played:
                started.append((filled, head))
                self.frames_played += head.frames
                self.delay_us = now_us - head.arrival_us
            filled += self._copy(head, out[:, filled:])
            if not head.left:
                ended = self._chunks.popleft().ends
        if self._playing and not self._chunks:
            self._playing = False
            self._starved_us = None if ended else now_us
        self._count(silent + n - filled, now_us)
        self.level = float(np.sqrt(np.mean(np.square(out)))) if out.size else 0.0
        return out, started

    def _admit(self, chunk: Chunk) -> None:
        """Adds a chunk; where more than the target waits already, the surplus of what waits is left
        out."""
        left = sum(waiting.left for waiting in self._chunks)
        surplus = left - self._samples(self.target_us)
        if surplus > self._samples(SLACK_US):
            self.samples_skipped += surplus
            while surplus:
                head = self._chunks[0]
                self.frames_overflow += 0 if head.played else head.frames
                skipped = min(surplus, head.left)
                head.played, surplus = head.played + skipped, surplus - skipped
                if not head.left:
                    self._chunks.popleft()
            self._rising, self._falling = self._fade, False
            if self._chunks:
                self._next = self._chunks[0].timestamp + self._chunks[0].played
        self._chunks.append(chunk)

    def _begin(self, head: Chunk) -> None:
        if self._begun and self._starved_us is not None and head.timestamp == self._next and not self._announced:
            self.underruns += 1
            self.target_us = min(self.target_us + TARGET_STEP_US, MAX_TARGET_US)
        self._playing = self._begun = True
        self._starved_us = None
        self._rising = self._fade

    def _copy(self, head: Chunk, out: Pcm) -> int:
        """Fills `out` from a chunk; returns how many samples it had."""
        count: int = min(head.left, out.shape[1])
        part = head.pcm[:, head.played : head.played + count]
        out[:, :count] = part
        if rising := min(count, self._rising):
            done = self._fade - self._rising
            out[:, :rising] *= (np.arange(done, done + rising, dtype=np.float32) + 1) / np.float32(self._fade)
            self._rising -= rising
        if head.left - count < self._fade and (self._falling or not self._goes_on(head)):
            self._falling = True
            left = np.arange(head.left, head.left - count, -1, dtype=np.float32)
            out[:, :count] *= np.minimum(left / np.float32(self._fade), 1)
            if head.left == count:  # what comes while it falls goes on from silence
                self._falling, self._rising = False, self._fade
        head.played += count
        self._next = head.timestamp + head.played
        return count

    def _goes_on(self, head: Chunk) -> bool:
        """Whether the samples that follow a chunk's are there."""
        return len(self._chunks) > 1 and self._chunks[1].timestamp == head.timestamp + head.pcm.shape[1]

    def _count(self, silent: int, now_us: int) -> None:
        if self._begun:
            self.samples_silent += silent
        if self._starved_us is not None and now_us - self._starved_us > SPURT_END_US:
            self.underruns += not self._announced
            self._starved_us = None

    def _samples(self, us: int) -> int:
        return us * self._sample_rate // 1_000_000
