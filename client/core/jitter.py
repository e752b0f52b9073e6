"""The jitter buffer: frames wait here, in order, until they are due. How long they wait is learnt
from how they arrive.

The method is that of WebRTC's NetEq. The delay of each frame, relative to the fastest frame of the
last two seconds, goes into a histogram that forgets; the target is a high quantile of it, and no
less than what the latest packets of half a minute make worth waiting for (`Lateness`).

A stall, after which frames come in a burst, is not part of the histogram unless stalls are
frequent. To wait for the next rare stall all the time would cost more than the stall itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earshot.client.core.latency import Path
from earshot.client.core.lateness import Lateness
from earshot.client.core.timeline import SampleClock
from earshot.protocol.sequence import SEQUENCE_MODULUS, TIMESTAMP_MODULUS, Arrival, ReorderTracker, unwrap

START_TARGET_US = 40_000
NEAR_START_US = 25_000
"""The same where a round trip takes no longer than `NEAR_US`: no network is between."""
NEAR_US = 5_000
CAREFUL_US = 25_000
"""The least target where a block of the output is longer than a frame."""
MIN_TARGET_US = 13_000
"""The least target on a line on which nothing comes late. It follows the latest packets of the last
half minute (`Lateness`)."""
SPARE_US = 8_000
"""What the target has beyond them: a block of the output may begin up to 7 ms before a frame that
it needs, and packets may come later than any before."""
SPARE_OVER_SPAN_US = 12_000
MIN_OVER_SPAN_US = 17_000
"""The same two for packets of several frames, beyond the time from the first frame to the last: a
block of the output may begin in the middle of a frame, and threads wake late."""
MAX_TARGET_US = 500_000
BASE_WINDOW_US = 2_000_000
QUANTILE = 0.971
FORGET = 0.99
"""Three late frames raise the target, and what is learnt fades within 5 s. With 0.95 and
0.983, which NetEq has, Wi-Fi's bursts on both lines made the delay 8 ms longer (p95, 1 frame in a
message) than this does: between two bursts the target fell."""
BUCKET_US = 2_500
"""Width of a bucket of the histogram: finer than a frame, because on a good link the spread is a
fraction of one."""
MARGIN_FRAMES = 0.25
"""What an underrun adds to the target: the last half minute knows nothing of rarer delays."""
MAX_MARGIN_FRAMES = 4
MARGIN_FALL_PER_S = 0.02
"""Share of the margin that goes in a second, or of a frame if the margin is less than one."""
FALL_SHARE_PER_S = 0.5
"""Share of what the target is too high that it falls in a second, if that is more than a frame.
NetEq's histogram forgets within a second; this keeps the target up between bursts that come more
seldom."""
STALL_US = 60_000
"""A frame this much later than the target begins a stall."""
STALL_FALL = 0.5
"""What came in a stall comes much faster than it was spoken: the delay of each frame is less than
that of the stall's first frame by this share of the time between them, at least. Otherwise the
network has become slower, and is believed."""
RARE_STALLS = 2
"""Stalls within `RARE_US` that the target does not follow. More than that is jitter."""
RARE_US = 5_000_000
PAUSE_US = 250_000
"""A packet that comes so long after the one before begins to speak anew. It holds sound that was
kept back until it was known to be speech, which is no lateness of the line."""
RESYNC_US = 3_000_000
"""A relative delay beyond this does not come from the network, because the server drops what waits
250 ms: the speaker's timeline has jumped."""


class DelayEstimator:
    """Estimates how long the frames of one speaker must wait so that nearly all are there in time.
    All times are microseconds."""

    def __init__(self, frame_us: float, start_us: float = START_TARGET_US) -> None:
        """`start_us` is the target before anything is known."""
        self._frame_us = frame_us
        self._histogram = np.zeros(MAX_TARGET_US // BUCKET_US)
        self._base: deque[tuple[int, float]] = deque(maxlen=1024)
        self._target_us = float(max(start_us, frame_us))
        self._margin_us = 0.0
        self._least_us: float = CAREFUL_US
        self._careful = False
        self._lateness = Lateness()
        self._spoke_us = 0
        """When the speaker began to speak, after it had said nothing."""
        self._last_us: int | None = None
        self._stalls: deque[int] = deque(maxlen=RARE_STALLS + 1)
        """When the last stalls ended."""
        self._stall: tuple[float, float] | None = None
        """Media time and relative delay of the first frame of the stall whose frames come now."""
        self.resyncs = 0

    @property
    def target_us(self) -> float:
        """How long a frame waits, counted from when it would have come if it had been as fast as
        the fastest frame of the last two seconds."""
        return min(self._target_us + self._margin_us, float(MAX_TARGET_US))

    @property
    def base_us(self) -> float:
        """Arrival time minus media time of the fastest frame of the last two seconds."""
        return self._base[0][1] if self._base else 0.0

    def observe(self, media_us: float, arrival_us: int, frames: int = 1) -> None:
        """Takes note that a packet has arrived whose first sample is at `media_us` of its speaker's
        timeline. Its last frame has waited least, its first most."""
        span_us = (frames - 1) * self._frame_us
        transit = arrival_us - media_us - span_us
        if self._base and abs(transit - self.base_us) > RESYNC_US and arrival_us - self._base[-1][0] < BASE_WINDOW_US:
            self._base.clear()
            self.resyncs += 1
        while self._base and arrival_us - self._base[0][0] > BASE_WINDOW_US:
            self._base.popleft()
        while self._base and self._base[-1][1] >= transit:
            self._base.pop()
        self._base.append((arrival_us, transit))
        relative = transit + span_us - self.base_us
        if not self._in_rare_stall(media_us, relative, arrival_us):
            bucket = min(int(relative // BUCKET_US), len(self._histogram) - 1)
            kept = FORGET**frames
            self._histogram *= kept
            self._histogram[bucket] += 1 - kept
            if not self._begins_to_speak(arrival_us):
                self._lateness.observe(transit, self.base_us, arrival_us)
            self._least_us = self._least(span_us)
        if self._histogram.any():
            reached = np.cumsum(self._histogram) >= QUANTILE * self._histogram.sum()
            self._move_target((int(np.argmax(reached)) + 1) * BUCKET_US, arrival_us)

    def be_careful(self) -> None:
        """Takes note that a block of the output is longer than a frame: what a block needs varies
        by up to a frame, so that the target stays where that costs no stretching."""
        self._careful = True

    def underrun(self) -> None:
        """Takes note that play-out ran dry although it kept this target."""
        self._margin_us = min(self._margin_us + MARGIN_FRAMES * self._frame_us, MAX_MARGIN_FRAMES * self._frame_us)

    def _in_rare_stall(self, media_us: float, relative_us: float, arrival_us: int) -> bool:
        """Returns whether a frame came in a stall of the network, and stalls are rare."""
        if self._stall is not None:
            first_us, delay_us = self._stall
            if relative_us > delay_us - STALL_FALL * (media_us - first_us):
                self._stall = None
                return False
        elif relative_us > self.target_us + STALL_US:
            self._stall = media_us, relative_us
            self._stalls.append(arrival_us)
        return self._stall is not None and not self._stalls_are_frequent

    @property
    def _stalls_are_frequent(self) -> bool:
        return len(self._stalls) > RARE_STALLS and self._stalls[-1] - self._stalls[0] < RARE_US

    def _begins_to_speak(self, now_us: int) -> bool:
        if self._last_us is None or now_us - self._last_us > PAUSE_US:
            self._spoke_us = now_us
        return now_us - self._spoke_us < self._frame_us / 2

    def _least(self, span_us: float) -> float:
        if span_us:
            return span_us + max(self._lateness.seen_us + SPARE_OVER_SPAN_US, MIN_OVER_SPAN_US)
        return max(self._lateness.expected_us + SPARE_US, CAREFUL_US if self._careful else MIN_TARGET_US)

    def _move_target(self, wanted_us: float, now_us: int) -> None:
        """Raises the target at once. Lowers it by a frame a second, or by half of what it is too
        high, but never under what the size of the packets asks for."""
        elapsed_s = 0.0 if self._last_us is None else min(max(now_us - self._last_us, 0) / 1e6, 1.0)
        self._last_us = now_us
        margin_fall_us = MARGIN_FALL_PER_S * max(self._margin_us, self._frame_us)
        self._margin_us = max(self._margin_us - margin_fall_us * elapsed_s, 0.0)
        fall_us = max(self._frame_us, FALL_SHARE_PER_S * (self._target_us - wanted_us))
        lowest = self._target_us - fall_us * elapsed_s
        self._target_us = float(min(max(wanted_us, lowest, self._least_us), MAX_TARGET_US))


@dataclass(slots=True, eq=False)
class Frame:
    """A frame on its way to the decoder."""

    sequence: int
    """Sequence number, not wrapped."""
    timestamp: int
    """Position of the first sample, not wrapped."""
    data: NDArray[Any]
    """int16 [n_q] codes, or float32 [samples] that need no decoding."""
    samples: int
    arrival_us: int
    capture_us: float | None = None
    """When the first sample was spoken, in local time. None where the packet has no trace."""
    path: Path | None = None
    """The trace of the packet, on the packet's first frame only."""
    taken_us: int = 0
    decoded_us: int = 0


class JitterBuffer:
    """Puts the frames of one speaker in order and hands them out. It never holds more than
    `max_frames`.

    Every frame that comes in is handed out by `take`, waits, or is counted as `late`, `duplicates`
    or `overflow`."""

    def __init__(self, sample_rate: int, hop: int, max_frames: int = 112, start_us: float = START_TARGET_US) -> None:
        self._samples = SampleClock(sample_rate)
        self._max_frames = max_frames
        self._frames: dict[int, Frame] = {}
        self._newest: tuple[int, int] | None = None
        self._order = ReorderTracker(max_frames)
        self.delay = DelayEstimator(hop * 1e6 / sample_rate, start_us)
        self.received = 0
        self.taken = 0
        self.late = 0
        """Frames that came after they had been given up, or so late that this is not known any
        more."""
        self.duplicates = 0
        self.overflow = 0

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def missing(self) -> int:
        """Frames that were given up, because others behind them were due."""
        return self._order.missing

    def put(
        self,
        sequence: int,
        timestamp: int,
        frames: Sequence[tuple[NDArray[Any], int]],
        arrival_us: int,
        path: Path | None,
    ) -> None:
        """Adds the frames of a packet, given as (data, samples) one after the other. `sequence` and
        `timestamp` are those on the wire."""
        number, position = self._unwrap(sequence, timestamp)
        first, taken = position, list[Frame]()
        for index, (data, samples) in enumerate(frames):
            capture = None if path is None else path.capture_us + self._samples.us(position - first)
            frame = Frame(number + index, position, data, samples, arrival_us, capture, path if index == 0 else None)
            if self._put(frame):
                taken.append(frame)
            position += samples
        if taken:
            self.delay.observe(self._samples.us(taken[0].timestamp), arrival_us, len(taken))

    def peek(self) -> Frame | None:
        """Returns the frame that comes next in order, whether or not others are missing before it.
        Returns None where no frame waits."""
        return self._frames[min(self._frames)] if self._frames else None

    def take(self) -> Frame | None:
        """Takes the frame that `peek` returns. Frames missing before it are given up."""
        if not self._frames:
            return None
        number = min(self._frames)
        self._order.hand_out(number)
        self.taken += 1
        return self._frames.pop(number)

    def number_of(self, sequence: int) -> int:
        """Returns a sequence number on the wire as it would be without wrapping."""
        return self._unwrap(sequence, 0)[0]

    def is_next(self, frame: Frame) -> bool:
        """Returns whether no frame is missing before this one."""
        return self._order.is_next(frame.sequence)

    def _unwrap(self, sequence: int, timestamp: int) -> tuple[int, int]:
        if self._newest is None:
            return sequence, timestamp
        number, position = self._newest
        return unwrap(sequence, number, SEQUENCE_MODULUS), unwrap(timestamp, position, TIMESTAMP_MODULUS)

    def _put(self, frame: Frame) -> bool:
        """Returns whether a frame is not too late and new."""
        self.received += 1
        arrival = self._order.arrive(frame.sequence, self._frames)
        self.duplicates += arrival is Arrival.DUPLICATE
        self.late += arrival is Arrival.LATE
        if arrival is not Arrival.IN_TIME:
            return False
        if self._newest is None or frame.sequence > self._newest[0]:
            self._newest = (frame.sequence, frame.timestamp)
        self._frames[frame.sequence] = frame
        if len(self._frames) > self._max_frames:
            oldest = min(self._frames)
            self._order.hand_out(oldest)
            self.overflow += 1
            del self._frames[oldest]
        return True
