"""Play-out of one speaker whose sound comes a second at a time: makes an even stream of windows
that are decoded elsewhere.

A window that begins a stretch is played `target_us` after it has been decoded. The others may come
later than that one did by as much. Nothing is stretched, because music would be heard to waver.
Where nothing came, the sound fades into silence and begins anew. Where more waits than the target,
a part is left out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from earshot.client.core.fade import FadeIn
from earshot.client.core.latency import Path
from earshot.client.core.level import rms
from earshot.client.core.timeline import PlayoutTimeline
from earshot.codec.pcm import Pcm

START_TARGET_US, TARGET_STEP_US, MAX_TARGET_US = 150_000, 100_000, 1_000_000
"""How late a window may be, at first, by how much more after each underrun, and at most."""
SLACK_US = 300_000
"""What may wait beyond the target when the next window comes."""
MAX_CHUNKS = 8
SPURT_END_US = 1_500_000
"""Silence after which a speaker that said nothing has stopped, not stalled."""


@dataclass(slots=True, eq=False)
class Chunk:
    """Decoded samples of one speaker."""

    pcm: Pcm
    """[channels, n] samples."""
    timestamp: int
    """Position of the first sample on the speaker's timeline, not wrapped."""
    frames: int
    """Frames of the window that the samples are from."""
    arrival_us: int
    taken_us: int
    """When decoding began."""
    decoded_us: int
    path: Path | None = None
    ends: bool = False
    """Whether the speaker ended its stretch of sound here."""
    played: int = 0

    @property
    def left(self) -> int:
        """Samples that are not played yet."""
        size: int = self.pcm.shape[1]
        return size - self.played


class WindowPlayout:
    """Takes chunks (`put`, on one thread) and gives out blocks (`pull`, on one other thread)."""

    def __init__(self, channels: int, sample_rate: int) -> None:
        self.target_us = START_TARGET_US
        self.frames_played = 0
        self.frames_overflow = 0
        self.samples_skipped = 0
        self.samples_silent = 0
        """Samples without sound of the speaker, since its first window was played."""
        self.delay_us = 0.0
        """Time from the arrival of the last window to the play-out of its first sample."""
        self.level = 0.0
        """Root mean square of the last block."""
        self._channels, self._sample_rate = channels, sample_rate
        self._timeline = PlayoutTimeline(sample_rate, SPURT_END_US)
        self._fade_in = FadeIn(sample_rate)
        self._fade = self._fade_in.length
        self._incoming: deque[Chunk] = deque()
        self._chunks: deque[Chunk] = deque()
        self._playing = self._begun = False
        self._next: int | None = None
        self._falling = False

    @property
    def underruns(self) -> int:
        """How often a window was due and not there."""
        return self._timeline.underruns

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing plays."""
        return not self._incoming and not self._chunks

    @property
    def frames_waiting(self) -> int:
        """Frames of the windows of which nothing has been played yet."""
        return sum(chunk.frames for chunk in (*self._incoming.copy(), *self._chunks.copy()) if not chunk.played)

    def put(self, chunk: Chunk) -> None:
        """Adds the samples that come next in time. The oldest are lost if nobody takes them."""
        if len(self._incoming) >= MAX_CHUNKS:
            self.frames_overflow += self._incoming.popleft().frames
        self._incoming.append(chunk)

    def announce_silence(self, silent: bool) -> None:
        """Takes note that the speaker muted itself or left (True), or is back (False). What a
        silent speaker does not send is no underrun."""
        self._timeline.silence_announced = silent

    def pull(self, n: int, now_us: int) -> tuple[Pcm, list[tuple[int, Chunk]]]:
        """Returns the next samples [channels, n], which the device takes at `now_us`, and the
        chunks that begin in them, with the index of their first sample."""
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
                wait = min(self._timeline.wait(head.decoded_us + self.target_us, now_us, filled), n - filled)
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
            if ended:
                self._timeline.resume()
            else:
                self._timeline.ran_dry(now_us)
        if self._begun:
            self.samples_silent += silent + n - filled
        self._timeline.block_played(now_us)
        self.level = rms(out)
        return out, started

    def _admit(self, chunk: Chunk) -> None:
        """Adds a chunk. Where much more than the target waits already, the surplus is left out."""
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
            self._fade_in.begin()
            self._falling = False
            if self._chunks:
                self._next = self._chunks[0].timestamp + self._chunks[0].played
        self._chunks.append(chunk)

    def _begin(self, head: Chunk) -> None:
        timeline = self._timeline
        if self._begun and timeline.dry and head.timestamp == self._next and not timeline.silence_announced:
            timeline.underruns += 1
            self.target_us = min(self.target_us + TARGET_STEP_US, MAX_TARGET_US)
        self._playing = self._begun = True
        timeline.resume()
        self._fade_in.begin()

    def _copy(self, head: Chunk, out: Pcm) -> int:
        """Fills `out` from a chunk and returns how many samples it had."""
        count: int = min(head.left, out.shape[1])
        part = head.pcm[:, head.played : head.played + count]
        out[:, :count] = part
        self._fade_in.apply(out[:, :count])
        if head.left - count < self._fade and (self._falling or not self._goes_on(head)):
            self._falling = True
            left = np.arange(head.left, head.left - count, -1, dtype=np.float32)
            out[:, :count] *= np.minimum(left / np.float32(self._fade), 1)
            if head.left == count:  # what comes while it falls goes on from silence
                self._falling = False
                self._fade_in.begin()
        head.played += count
        self._next = head.timestamp + head.played
        return count

    def _goes_on(self, head: Chunk) -> bool:
        """Returns whether the samples that follow those of a chunk are there."""
        return len(self._chunks) > 1 and self._chunks[1].timestamp == head.timestamp + head.pcm.shape[1]

    def _samples(self, us: int) -> int:
        return us * self._sample_rate // 1_000_000
