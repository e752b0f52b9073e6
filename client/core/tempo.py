"""Decides when to play a little faster or slower, so that the spare time of a speaker's play-out
stays near its target.

The spare time of a frame is how long before it was needed it would have been there, if it had been
as fast as the fastest of the last two seconds. The least over half a second counts. The thresholds
are those of WebRTC's NetEq."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

LOW_WATER = 0.75
"""Share of the target below which time is stretched, as in NetEq."""
LOW_UNDER_TARGET_US = 10_000
"""Distance of the low water from the target at most: a quarter of the target that a call begins
with. Packets of several frames have a higher target, most of which is their own length."""
HIGH_WATER_OVER_LOW_US = 20_000
"""Distance of the high water, above which time is compressed, from the low water at least."""
HARD = 4
"""Above this many times the high water, time is compressed in speech as fast as in pauses, and
where periods are less alike too."""
FAR_US = 40_000
"""Spare time over the target that no lucky block explains: it is not observed any longer before
time is compressed."""
SLACK_US = 2_500
"""Spare time over the target that is left alone: the shortest period that can be cut out."""
PAUSE_SPACING = 4
"""Samples that are played for each one cut out or repeated in a pause, and far from the target:
time runs at most 25 % faster or slower."""
SPEECH_SPACING = 8.4
"""The same in speech: 12 %."""
OBSERVE_US = 500_000
"""How far back blocks are observed."""
SETTLED_US = 200_000
"""How long blocks are observed before time is compressed, because a single one may have been
lucky."""
SIMILAR = 0.8
"""Correlation from which on a cut between two periods is hardly heard."""
IMPATIENCE = 0.02
"""By how much each try that failed lowers that correlation, so that noise cannot keep a delay up
for ever."""


@dataclass(frozen=True)
class Plan:
    """What to do to the next samples. Without `urgent` or `hard` it is done in quiet passages
    only."""

    samples: int
    """How many samples to cut out (> 0) or to repeat (< 0), at most."""
    urgent: bool = False
    """Whether to do it also where two periods are as alike as `similar`."""
    hard: bool = False
    """Whether to do it anywhere, however it sounds."""
    similar: float = SIMILAR
    headroom: int = 0
    """How many samples the spare time may lose before it is below the low water."""


class Tempo:
    """Controls one speaker's speed. All times are microseconds."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._seen: deque[tuple[int, float]] = deque(maxlen=512)
        self._compressing = False
        self._debts = {PAUSE_SPACING: 0.0, SPEECH_SPACING: 0.0}
        """Samples that were cut out or repeated and are not made up for by others that were
        played, by how many of these that takes."""
        self._vain = 0

    def observe(self, now_us: int, transit_us: float) -> None:
        """Takes note of a block that is taken at `now_us`, `transit_us` after the media time of its
        last frame."""
        self._seen.append((now_us, transit_us))
        while now_us - self._seen[0][0] > OBSERVE_US:
            self._seen.popleft()

    def interrupted(self) -> None:
        """Forgets what was observed, because play-out stopped and what comes may be different."""
        self._seen.clear()
        self._compressing = False

    def spare_us(self, base_us: float) -> float | None:
        """Returns the spare time, given the transit of the fastest frame. Returns None where
        nothing has been observed."""
        return min(transit for _, transit in self._seen) - base_us if self._seen else None

    def plan(self, target_us: float, base_us: float) -> Plan | None:
        """Returns what to do to the next samples, None if nothing."""
        spare = self.spare_us(base_us)
        if spare is None:
            return None
        low = max(LOW_WATER * target_us, target_us - LOW_UNDER_TARGET_US)
        high = max(target_us, low + HIGH_WATER_OVER_LOW_US)
        excess = spare - target_us
        hard = spare > HARD * high
        self._compressing = spare > high or (self._compressing and excess > SLACK_US)
        if self._debts[PAUSE_SPACING] > 0:
            return None
        in_speech = hard or self._debts[SPEECH_SPACING] <= 0
        similar = SIMILAR - IMPATIENCE * self._vain
        headroom = int((spare - low) * self._sample_rate / 1e6)
        settled = excess > FAR_US or self._seen[-1][0] - self._seen[0][0] >= SETTLED_US
        if excess > SLACK_US and settled:
            samples = int(excess * self._sample_rate / 1e6)
            return Plan(samples, self._compressing and in_speech, hard, similar, headroom)
        if spare < low:
            return Plan(int(excess * self._sample_rate / 1e6), in_speech, similar=similar)
        return None

    def done(self, plan: Plan, cut: int, spent: int) -> None:
        """Takes note of what became of a plan: `cut` samples were cut out (> 0) or repeated (< 0),
        or none were fit for it (0). The spare time lost `spent` samples by it."""
        if not cut:
            self._vain += plan.urgent
            return
        self._vain = 0
        for spacing, debt in self._debts.items():
            self._debts[spacing] = min(debt, 0.0) + abs(cut)
        shift = spent * 1e6 / self._sample_rate
        self._seen = deque(((at, transit - shift) for at, transit in self._seen), maxlen=self._seen.maxlen)

    def played(self, samples: int) -> None:
        """Takes note of samples that were played."""
        for spacing, debt in self._debts.items():
            self._debts[spacing] = max(debt - samples / spacing, -samples / spacing)
