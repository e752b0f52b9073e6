"""Whether another stream fits: what steps take, how late results are, and what one more would do.
No clock.

Workers take whatever frames are ready as one batch, one worker after the other. With `base` us a
step and `each` us a frame, S streams of a frame every T us and W workers, steps settle where one
starts every base / (W - S each / T) us, or when a turn is due, if that is later (`turn_us`). A
frame waits for the next start at most, or where no worker is free for the step that runs, and then
for its own step: that is the longest that a result takes. A new stream fits if that stays within
the limit, and if what was measured lately does too."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from earshot.server.core.jobs import Kind

FORGET = 0.995
"""Weight of a measured step relative to the one after it. In effect the last few hundred steps
count: a few seconds of a busy worker."""
TRUSTED_STEPS = 10.0
"""Each measurement of the idle engine counts as this many steps, and is never forgotten: the steps
of a lone speaker would not show what each further frame costs."""
SURPRISE = 3.0
"""A step counts as at most this many times what was expected: one that was interrupted says little,
and many raise what is expected soon enough."""
LONGEST_TURN = 1 / 3
"""Longest time between the starts of two steps of one worker, in frames."""
SMALL_BATCH = 8
LEAST_EACH = 0.1
"""Least cost of a further frame, as a share of the mean time of a frame. A lower one is noise."""

WINDOW_US = 1_000_000
LATE_SHARE, LATE_FRAMES = 0.01, 2
"""A worker is behind if, in two windows in a row, both more than this share of the frames and more
than this number of them are late."""
KEPT_WINDOWS = 3
BUCKET_US = 100


def turn_us(step_us: float, frame_us: float, workers: int) -> float:
    """Returns the time from the start of a step to the start of the next one, by whichever worker:
    twice what the last one took, a third of a frame at most, shared by the workers. So the next
    step has more frames, which cost less each, and a lone speaker hardly notices."""
    return min(2 * step_us, LONGEST_TURN * frame_us) / workers


def largest_batch(streams: int, workers: int) -> int:
    """Returns how many frames one worker takes at once: half of its share of all streams. Were it
    more, what has piled up while the machine did something else would be with one worker, and those
    that came last would be late."""
    return max(-(-streams // (2 * workers)), SMALL_BATCH)


class StepTimes:
    """How long a step takes by its number of frames: a line through what was measured, the latest
    above all."""

    def __init__(self) -> None:
        self._lately = _Sums()
        self._idle = _Sums()

    def expect(self, frames: int, us: float) -> None:
        """Counts a measurement of the idle engine; it stays."""
        self._idle.add(frames, us, TRUSTED_STEPS)

    def add(self, frames: int, us: float) -> None:
        """Counts a step of a working engine."""
        expected = self.of(frames)
        if expected:
            us = min(us, SURPRISE * expected)
        self._lately.fade(FORGET)
        self._lately.add(frames, us, 1.0)

    def fit(self) -> tuple[float, float]:
        """Returns (base, each): microseconds of a step, and of each of its frames; (0, 0) while
        nothing is known."""
        both = self._lately.plus(self._idle)
        if not both.weight:
            return 0.0, 0.0
        mean_frames, mean_us = both.frames / both.weight, both.us / both.weight
        spread = both.squares / both.weight - mean_frames**2
        covariance = both.products / both.weight - mean_frames * mean_us
        most = mean_us / mean_frames
        each = min(max(covariance / spread if spread > 1e-9 else 0.0, LEAST_EACH * most), most)
        return mean_us - each * mean_frames, each

    def of(self, frames: int) -> float:
        """Returns the expected microseconds of a step of so many frames."""
        base, each = self.fit()
        return base + each * frames if frames else 0.0


@dataclass
class _Sums:
    """Weighted sums for a straight line."""

    weight: float = 0.0
    frames: float = 0.0
    us: float = 0.0
    squares: float = 0.0
    products: float = 0.0

    def add(self, frames: int, us: float, weight: float) -> None:
        self.weight += weight
        self.frames += weight * frames
        self.us += weight * us
        self.squares += weight * frames * frames
        self.products += weight * frames * us

    def fade(self, factor: float) -> None:
        self.weight *= factor
        self.frames *= factor
        self.us *= factor
        self.squares *= factor
        self.products *= factor

    def plus(self, other: _Sums) -> _Sums:
        return _Sums(
            self.weight + other.weight,
            self.frames + other.frames,
            self.us + other.us,
            self.squares + other.squares,
            self.products + other.products,
        )


@dataclass
class _Window:
    began_us: int
    times: Counter[int] = field(default_factory=Counter)
    """Results by how long they took, in buckets of BUCKET_US."""
    busy_us: int = 0


class LatencyWindow:
    """How long results took lately, in windows of a second."""

    def __init__(self, now_us: int = 0) -> None:
        self._windows: deque[_Window] = deque([_Window(now_us)], KEPT_WINDOWS)

    def add(self, taken_us: Sequence[int], busy_us: int, now_us: int) -> None:
        """Counts the results of one batch, each with its time from frame ready to result, and how
        long the worker was at it."""
        window = self._window(now_us)
        window.busy_us += busy_us
        for taken in taken_us:
            window.times[taken // BUCKET_US] += 1

    def _window(self, now_us: int) -> _Window:
        """Returns the window that `now_us` belongs to."""
        last = self._windows[-1]
        if now_us - last.began_us >= KEPT_WINDOWS * WINDOW_US:
            self._windows.clear()
            self._windows.append(_Window(now_us))
        while now_us - self._windows[-1].began_us >= WINDOW_US:
            self._windows.append(_Window(self._windows[-1].began_us + WINDOW_US))
        return self._windows[-1]

    def _whole(self, now_us: int) -> list[_Window]:
        self._window(now_us)
        return list(self._windows)[:-1]

    def load(self, now_us: int) -> float:
        """Returns the time, in all, that steps took, by the time that went by."""
        whole = self._whole(now_us)
        return sum(window.busy_us for window in whole) / (WINDOW_US * len(whole)) if whole else 0.0

    def behind(self, limit_us: float, now_us: int) -> bool:
        """Returns whether results came late, second after second."""
        whole = self._whole(now_us)[-2:]
        return len(whole) == 2 and all(_late(window.times, limit_us) for window in whole)

    def percentile_us(self, share: float, now_us: int) -> int | None:
        """Returns what `share` of the results took at most; None if there were none."""
        times: Counter[int] = Counter()
        for window in self._whole(now_us):
            times += window.times
        wanted, seen = share * times.total(), 0
        for bucket in sorted(times):
            seen += times[bucket]
            if seen >= wanted:
                return bucket * BUCKET_US
        return None


def _late(times: Counter[int], limit_us: float) -> bool:
    late = sum(count for bucket, count in times.items() if bucket * BUCKET_US > limit_us)
    return late > max(LATE_SHARE * times.total(), LATE_FRAMES)


class WorkerLoad:
    """What steps take, and how in time the workers are."""

    def __init__(self, frame_us: float, now_us: int = 0, workers: int = 1) -> None:
        self.frame_us = frame_us
        self._workers = workers
        self.steps: dict[Kind, StepTimes] = {"encoder": StepTimes(), "decoder": StepTimes()}
        self.latency = LatencyWindow(now_us)

    def longest_us(self, streams: Mapping[Kind, int]) -> float:
        """Returns the longest that a result is expected to take with so many streams; infinite if
        they are too many."""
        base, use = 0.0, 0.0
        for kind, count in streams.items():
            own_base, own_each = self.steps[kind].fit()
            base += own_base if count else 0.0
            use += count * own_each / self.frame_us
        if use >= self._workers:
            return math.inf
        settled, turn = base / (self._workers - use), LONGEST_TURN * self.frame_us / self._workers
        if 2 * use < self._workers:
            turn = min(2 * base / (self._workers - 2 * use), turn)
        apart = max(settled, turn)
        return max(apart + base + use * apart, 2 * self._workers * settled)

    def busy(self, now_us: int) -> float:
        """Returns the part of their time, lately, that the workers stepped."""
        return self.latency.load(now_us) / self._workers

    def slack_ms(self, now_us: int) -> dict[str, float | None]:
        """Returns what was left of a frame's time when results were there: of most of them, and of
        the latest."""
        taken = {name: self.latency.percentile_us(share, now_us) for name, share in (("p50", 0.5), ("p99", 0.99))}
        return {name: None if us is None else round((self.frame_us - us) / 1000, 1) for name, us in taken.items()}

    def step_ms(self) -> dict[Kind, dict[str, float]]:
        """Returns what a step takes, and each frame in it."""
        fits = {kind: steps.fit() for kind, steps in self.steps.items()}
        return {
            kind: {"base": round(base / 1e3, 3), "each": round(each / 1e3, 4)} for kind, (base, each) in fits.items()
        }

    def fits(self, streams: Mapping[Kind, int], limit_us: float, now_us: int) -> bool:
        """Returns whether so many streams would all get their results within the limit."""
        return self.longest_us(streams) <= limit_us and not self.latency.behind(limit_us, now_us)

    def headroom(
        self, streams: Mapping[Kind, int], limit_us: float, now_us: int, most: int, kind: Kind = "encoder"
    ) -> int:
        """Returns how many streams of a kind more would fit, at most `most`."""
        if self.latency.behind(limit_us, now_us):
            return 0
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            more = {**streams, kind: streams[kind] + middle}
            low, high = (middle, high) if self.longest_us(more) <= limit_us else (low, middle - 1)
        return low
