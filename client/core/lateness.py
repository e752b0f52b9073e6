"""How late packets came in the last half minute of speech, and what wait costs least: a longer one
makes the call slower, a shorter one lets play-out run dry."""

from __future__ import annotations

from collections import deque

SECONDS = 30
"""Seconds of speech that are remembered. A delay that comes once in some seconds, as the latest of
jitter does, is gone from the histogram before the next one."""
FIRST_SECONDS = 5
"""The same at the beginning, and then half of the time since the first packet, up to `SECONDS`:
programs run unevenly while they begin."""
DRY_US = 400_000
"""What it costs if play-out ran dry in every second, as a wait. A delay that comes once in half a
minute is waited for up to 13 ms, one that comes every second up to this. With
100, 200 and 300 ms the recorded Wi-Fi call ran dry 5, 4 and 3 times, no longer 2, the one with 1 %
loss 12, 11 and 10 times, no longer 8."""
LEAST_SECONDS = 15
"""Seconds over which a second counts that was late, at least. With 10, 20 s of calls on one
machine had a p99 of 57 to 95 ms, with this 54 to 59. With 20 the recorded call with 1 % loss ran
dry 10 times, no longer 8."""
MAX_US = 80_000
"""What counts at most. Retransmitted packets are later: without a bound, in a rule on the way to
this one, the recorded call with 3 % loss waited 50 ms longer and ran dry as often."""
UNKNOWN_US = 17_000
"""How late packets are believed to come at the beginning: the spread of a second does not show how
late a busy machine may wake a thread. Two clients and a server on two cores had 3 to 6 underruns
in 20 s with a target of one frame (13 ms). With `UNKNOWN_US` all the time they had 0 to 2 in eight
runs of nine and 5 in the ninth."""
UNKNOWN_FALL_US_PER_S = 3_500


class Lateness:
    """What the latest packets of one speaker needed. All times are microseconds."""

    def __init__(self) -> None:
        self._began_us: int | None = None
        self._now_us = 0
        self._base_us = 0.0
        self._latest: deque[tuple[int, float, float]] = deque(maxlen=SECONDS)
        """The last seconds in which packets came: number, and of the latest packet how late it was
        and its transit."""

    def observe(self, transit_us: float, base_us: float, arrival_us: int) -> None:
        """Takes note of a packet with its transit, arrival minus media time, and that of the
        fastest one."""
        if self._began_us is None:
            self._began_us = arrival_us
        self._now_us, self._base_us = arrival_us, base_us
        second, latest = (arrival_us - self._began_us) // 1_000_000, (transit_us - base_us, transit_us)
        if self._latest and self._latest[-1][0] == second:
            latest = max(self._latest.pop()[1:], latest)
        self._latest.append((second, *latest))
        if len(self._latest) > max(FIRST_SECONDS, second // 2):
            self._latest.popleft()

    @property
    def seen_us(self) -> float:
        """The wait that would have cost least. What was late on a faster path may be in time by
        now."""
        late = [max(min(late, transit - self._base_us, MAX_US), 0.0) for _, late, transit in self._latest]
        late.sort(reverse=True)
        dry = DRY_US / max(len(late), LEAST_SECONDS)
        return min((wait + later * dry, wait) for later, wait in enumerate([*late, 0.0]))[1]

    @property
    def expected_us(self) -> float:
        """The same, and what cannot be known at the beginning."""
        since_s = 0.0 if self._began_us is None else (self._now_us - self._began_us) / 1e6
        return max(self.seen_us, UNKNOWN_US - UNKNOWN_FALL_US_PER_S * since_s)
