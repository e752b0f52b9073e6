from __future__ import annotations

import pytest

from earshot.client.core.lateness import FIRST_SECONDS, MAX_US, SECONDS, UNKNOWN_FALL_US_PER_S, UNKNOWN_US, Lateness


def hear(lateness: Lateness, late_us: dict[int, float], start_s: int, end_s: int, base_us: float = 0.0) -> None:
    """Lets ten packets come in each second, the fifth of them late where a second is named."""
    for second in range(start_s, end_s):
        for part in range(10):
            late = late_us.get(second, 0.0) if part == 5 else 0.0
            lateness.observe(base_us + late, base_us, second * 1_000_000 + part * 100_000)


@pytest.mark.parametrize(
    ("late_us", "every_s", "waited_for"),
    [
        (12_000.0, 30, True),
        (15_000.0, 30, False),
        (25_000.0, 15, True),
        (28_000.0, 15, False),
        (75_000.0, 5, True),
        (79_000.0, 6, False),
    ],
)
def test_what_comes_late_more_often_is_waited_for_longer(late_us: float, every_s: int, waited_for: bool) -> None:
    lateness, now_s = Lateness(), 2 * SECONDS
    hear(lateness, {}, 0, now_s)
    hear(lateness, dict.fromkeys(range(now_s, now_s + SECONDS, every_s), late_us), now_s, now_s + SECONDS)
    assert lateness.seen_us == (late_us if waited_for else 0)


def test_seconds_that_were_too_long_ago_are_forgotten() -> None:
    lateness = Lateness()
    hear(lateness, {2 * SECONDS: 12_000.0}, 0, 3 * SECONDS)
    assert lateness.seen_us == 12_000
    hear(lateness, {}, 3 * SECONDS, 3 * SECONDS + 1)
    assert lateness.seen_us == 0


def test_the_first_seconds_are_forgotten_sooner() -> None:
    lateness = Lateness()
    hear(lateness, dict.fromkeys(range(3), 50_000.0), 0, FIRST_SECONDS)
    assert lateness.seen_us == 50_000
    hear(lateness, {}, FIRST_SECONDS, 2 + FIRST_SECONDS)
    assert lateness.seen_us == 0


def test_silence_forgets_nothing() -> None:
    lateness = Lateness()
    hear(lateness, {1: 15_000.0}, 0, 3)
    hear(lateness, {}, 500, 505)
    assert lateness.seen_us == 15_000


def test_a_path_that_became_slower_is_no_lateness() -> None:
    lateness = Lateness()
    hear(lateness, {}, 0, 5)
    for second in (5, 6):  # the fastest of the last two seconds is still one of the faster path
        lateness.observe(50_000.0, 0.0, second * 1_000_000)
    assert lateness.seen_us == 50_000
    hear(lateness, {}, 7, 9, base_us=50_000.0)
    assert lateness.seen_us == 0


def test_a_path_that_became_faster_makes_nothing_late() -> None:
    lateness = Lateness()
    hear(lateness, {}, 0, 5, base_us=80_000.0)
    hear(lateness, {}, 5, 7)
    assert lateness.seen_us == 0


def test_stalls_count_up_to_a_bound() -> None:
    lateness = Lateness()
    hear(lateness, dict.fromkeys(range(5), 900_000.0), 0, 5)
    assert lateness.seen_us == MAX_US


def test_what_is_expected_begins_high_and_falls() -> None:
    lateness = Lateness()
    assert lateness.expected_us == UNKNOWN_US
    hear(lateness, {}, 0, 3)
    assert lateness.expected_us == UNKNOWN_US - 2.9 * UNKNOWN_FALL_US_PER_S
    hear(lateness, {}, 3, 10)
    assert lateness.expected_us == lateness.seen_us == 0
