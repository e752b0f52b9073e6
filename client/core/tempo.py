"""When to play a little faster or slower: keeps the spare time of a speaker's play-out near its
target.

Spare time is how long before it was needed a frame would have been there, had it been as fast as
the fastest of the last two seconds; the least over half a second counts. The thresholds are those
of WebRTC's NetEq."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

LOW_WATER = 0.75
"""Of the target, as in NetEq."""
HIGH_WATER_OVER_LOW_US = 20_000
HARD = 4
"""Above this many times the high water time is compressed without regard to how it sounds."""
SLACK_US = 2_500
"""Spare time over the target that is left alone: the shortest period that can be cut out."""
RATE_LIMIT = 10
"""Samples played for each one cut out or repeated: time runs at most 10 % faster or slower."""
OBSERVE_US = 500_000
SETTLED_US = 200_000
"""Of observation before time is compressed: a single block may have been a lucky one."""
SIMILAR = 0.8
"""Correlation from which a cut between two periods is hardly heard."""
IMPATIENCE = 0.02
"""What every vain try takes off that, so that noise cannot keep a delay up for ever."""


@dataclass(frozen=True)
class Plan:
    samples: int
    """To cut out (> 0) or to repeat (< 0), at most."""
    urgent: bool = False
    """Not in quiet passages only, if two periods are as alike as `similar`."""
    hard: bool = False
    """Wherever it is, however it sounds."""
    similar: float = SIMILAR
    room: int = 0
    """Samples that the spare time may lose before it is below the low water."""


class Tempo:
    """Control of one speaker's speed. Times in microseconds."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._seen: deque[tuple[int, float]] = deque(maxlen=512)
        self._compressing = False
        self._cooldown = 0
        self._vain = 0

    def observe(self, now_us: int, transit_us: float) -> None:
        """A block is taken at `now_us` whose last frame has its media time `transit_us` before
        that."""
        self._seen.append((now_us, transit_us))
        while now_us - self._seen[0][0] > OBSERVE_US:
            self._seen.popleft()

    def interrupted(self) -> None:
        """Play-out stopped; what was seen of it says nothing about what comes."""
        self._seen.clear()
        self._compressing = False

    def spare_us(self, base_us: float) -> float | None:
        """Spare time, with `base_us` the transit of the fastest frame; None where nothing has been
        seen."""
        return min(transit for _, transit in self._seen) - base_us if self._seen else None

    def plan(self, target_us: float, base_us: float) -> Plan | None:
        """What to do to the next samples; None for nothing."""
        spare = self.spare_us(base_us)
        if spare is None:
            return None
        low = LOW_WATER * target_us
        high = max(target_us, low + HIGH_WATER_OVER_LOW_US)
        excess = spare - target_us
        hard = spare > HARD * high
        self._compressing = spare > high or (self._compressing and excess > SLACK_US)
        if self._cooldown > 0 and not hard:
            return None
        similar = SIMILAR - IMPATIENCE * self._vain
        room = int((spare - low) * self._sample_rate / 1e6)
        if excess > SLACK_US and (hard or self._seen[-1][0] - self._seen[0][0] >= SETTLED_US):
            return Plan(int(excess * self._sample_rate / 1e6), self._compressing, hard, similar, room)
        if spare < low:
            return Plan(int(excess * self._sample_rate / 1e6), urgent=True, similar=similar)
        return None

    def done(self, plan: Plan, cut: int, spent: int) -> None:
        """Of the plan, `cut` samples were cut out (> 0) or repeated (< 0), or nothing was fit for
        it (0); the spare time lost `spent` samples by it."""
        if not cut:
            self._vain += plan.urgent
            return
        self._vain = 0
        self._cooldown = 0 if plan.hard else RATE_LIMIT * abs(cut)
        shift = spent * 1e6 / self._sample_rate
        self._seen = deque(((at, transit - shift) for at, transit in self._seen), maxlen=self._seen.maxlen)

    def played(self, samples: int) -> None:
        self._cooldown = max(self._cooldown - samples, 0)
