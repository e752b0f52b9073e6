"""Decides how much a client sends, from how long what it sends waits: more frames in a message at
first, which saves the most bits, then fewer codebooks. Fast down, slow up.

What waits is measured beyond the round trip of an idle line, and only the least of the last third
of a second counts: a packet that was lost holds up all behind it for a moment, and then nothing
waits any more, while a line that is too thin holds up more and more."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

FRAMES = (1, 2, 3, 4, 6)
"""Frames in a message, from those that come soonest to those that cost the fewest headers."""
SETTLE_US = 2_000_000
"""How long after its begin a connection is left alone: its first messages come all at once."""
WINDOW_US = 300_000
"""How far back the least that waited is looked for: TCP sends what was lost again within this time
where a round trip takes 50 ms, and an acknowledgement may be 40 ms late."""
BEHIND_US = 100_000
"""What waits longer than this is behind."""
PATIENCE_US = 100_000
"""How long it must be behind."""
STEP_US = 250_000
"""Time from one step to the next, in which the first should show."""
FALLS = 0.875
"""What waits is going down by itself if it has fallen to this share in that time, or in
`PATIENCE_US` before the first step, as what a call begins with does on a thin line."""
FAR_US = 600_000
"""So far behind, the last step is taken at once."""
CALM_US = 50_000
"""What waits no longer than this is no sign of a thin line."""
AT_ONCE_US, QUICK_US = 300_000, 1_000_000
"""Where so much waited and all of it went away at once, the line stood still and is not thin: each
step up then takes the second time of calm."""
CLIMB_US, LONGEST_CLIMB_US = 4_000_000, 64_000_000
"""How long it must be calm for a step up; twice as long after each that was too much, at most as
long as the second."""


class Amount(NamedTuple):
    """What is sent."""

    frames: int
    """Frames in a message."""
    kbps: float
    """Codec rate."""


def ladder(most: Amount, rates: Iterable[float]) -> list[Amount]:
    """Returns the steps from what is wanted down to the least: the frames of `FRAMES`, then the
    lower ones of the codec's `rates`."""
    steps = [most, *(Amount(frames, most.kbps) for frames in FRAMES if frames > most.frames)]
    lower = sorted((rate for rate in rates if rate < most.kbps), reverse=True)
    return steps + [Amount(steps[-1].frames, rate) for rate in lower]


class Adaptation:
    """Holds the step that one connection is at."""

    def __init__(self, most: Amount, rates: Iterable[float]) -> None:
        """`most` is what is sent on a good line, and `rates` are those that the codec has."""
        self._rates = tuple(rates)
        self._recent: deque[tuple[int, float]] = deque(maxlen=256)
        self._steps = ladder(most, self._rates)
        self._at = 0
        self._behind: tuple[int, float] | None = None
        """Since when what waits is behind and did not go down by itself, and what waited then."""
        self._wait_us = PATIENCE_US
        """How long that may last until the next step."""
        self._calm_us: int | None = None
        """Since when it has been calm, or the last step up."""
        self._climb_us = CLIMB_US
        self._waited_us = 0.0
        self._climbed_us: int | None = None
        self.downs = self.ups = 0

    @property
    def amount(self) -> Amount:
        """What to send."""
        return self._steps[self._at]

    @property
    def most(self) -> Amount:
        """What is sent on a good line."""
        return self._steps[0]

    @property
    def lowered(self) -> bool:
        """Whether that is less than what is wanted."""
        return self._at > 0

    def want(self, most: Amount) -> None:
        """Takes what is to be sent on a good line from now on. As many steps below it as before are
        taken, if there are."""
        self._steps = ladder(most, self._rates)
        self._at = min(self._at, len(self._steps) - 1)

    def observe(self, waiting_us: float, now_us: int) -> Amount:
        """Takes how much longer than on an idle line what is sent waits, and returns what to send.
        It should be called several times in `STEP_US`."""
        self._recent.append((now_us, waiting_us))
        while now_us - self._recent[0][0] > WINDOW_US:
            self._recent.popleft()
        waiting_us = min(waiting for _, waiting in self._recent)
        if waiting_us <= CALM_US and self._waited_us >= AT_ONCE_US:
            self._climb_us = QUICK_US
        self._waited_us = waiting_us
        if waiting_us <= BEHIND_US:
            self._behind, self._wait_us = None, PATIENCE_US
        elif self._behind is None:
            self._behind = now_us, waiting_us
        if waiting_us > CALM_US:
            self._calm_us = None
        elif self._calm_us is None:
            self._calm_us = now_us
        if self._is_too_much(waiting_us, now_us):
            self._step_down(waiting_us, now_us)
        elif self.lowered and self._calm_us is not None and now_us - self._calm_us >= self._climb_us:
            self._at -= 1
            self.ups += 1
            self._calm_us = self._climbed_us = now_us
        if not self.lowered and self._climbed_us is not None and now_us - self._climbed_us > LONGEST_CLIMB_US:
            self._climb_us, self._climbed_us = CLIMB_US, None
        return self.amount

    def _is_too_much(self, waiting_us: float, now_us: int) -> bool:
        if self._behind is None:
            return False
        if waiting_us >= FAR_US:
            return True
        since_us, then_us = self._behind
        if now_us - since_us < self._wait_us:
            return False
        falls = waiting_us <= FALLS * then_us
        if falls and self._wait_us == PATIENCE_US:
            self._behind = now_us, waiting_us
        return not falls

    def _step_down(self, waiting_us: float, now_us: int) -> None:
        last = len(self._steps) - 1
        if self._at < last:
            self._at = last if waiting_us >= FAR_US else self._at + 1
            self.downs += 1
            if self._climbed_us is not None and now_us - self._climbed_us < self._climb_us:
                self._climb_us = min(2 * self._climb_us, LONGEST_CLIMB_US)
            self._climbed_us = None
        self._behind, self._wait_us = (now_us, waiting_us), STEP_US
