"""One rate for all who share it, in fake time."""

from __future__ import annotations

from earshot.server.core.pace import Pace


def test_all_who_share_a_pace_keep_to_it_together() -> None:
    pace = Pace(1e6)  # one a microsecond
    assert [pace.begin_us(100, 50) for _ in range(4)] == [50, 150, 250, 350]
    assert pace.begin_us(100, 1000) == 1000, "time in which nobody wanted any is not saved up"
    assert pace.begin_us(0, 1000) == 1100


def test_some_time_that_nobody_wanted_is_saved_up() -> None:
    pace = Pace(1e6, saved_us=150)
    assert [pace.begin_us(100, 1000) for _ in range(4)] == [1000, 1000, 1050, 1150]
    assert pace.begin_us(100, 1200) == 1250
    assert [pace.begin_us(100, 9000) for _ in range(3)] == [9000, 9000, 9050], "not more than that"
