"""Lag of the event loop, and counts by size, in fake time."""

from __future__ import annotations

from earshot.server.core.lag import Lag
from earshot.server.core.tally import Tally

SECOND = 1_000_000


def test_a_pause_is_no_overload_and_lag_all_the_time_is() -> None:
    lag = Lag(0.3)
    assert not lag.behind(0)
    lag.add(300_000, 0)
    for now_us in range(0, SECOND, 50_000):
        lag.add(100, now_us)
    assert not lag.behind(SECOND)
    assert 0.1 < lag.share(SECOND) < 0.11
    for now_us in range(SECOND, 4 * SECOND, 90_000):
        lag.add(40_000, now_us)
    assert lag.behind(4 * SECOND)
    assert not lag.behind(8 * SECOND)
    assert lag.share(8 * SECOND) == 0


def test_a_tally_counts_what_is_at_most_so_large() -> None:
    tally = Tally((1, 2, 5))
    for value in (0, 1, 1.5, 2, 3, 9):
        tally.add(value)
    assert tally.cumulated() == [2, 4, 5, 6]
    assert tally.sum == 16.5
