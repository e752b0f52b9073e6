from __future__ import annotations

import itertools

import pytest

from earshot.client.core.adaptation import (
    BEHIND_US,
    CLIMB_US,
    FAR_US,
    LONGEST_CLIMB_US,
    PATIENCE_US,
    STEP_US,
    Adaptation,
    Amount,
    ladder,
)

RATES = (1.5, 3.0, 6.0, 12.0)
LOOK_US = 50_000
MS = 1000
BALANCED = Amount(3, 6.0)
IDLE = (400, 0)
"""Milliseconds, and what waits then."""


@pytest.mark.parametrize(
    ("most", "steps"),
    [
        ((1, 6.0), [(1, 6.0), (2, 6.0), (3, 6.0), (4, 6.0), (6, 6.0), (6, 3.0), (6, 1.5)]),
        ((3, 12.0), [(3, 12.0), (4, 12.0), (6, 12.0), (6, 6.0), (6, 3.0), (6, 1.5)]),
        ((6, 1.5), [(6, 1.5)]),
        ((8, 3.0), [(8, 3.0), (8, 1.5)]),
    ],
    ids=["low", "rich", "least", "more than the ladder has"],
)
def test_steps(most: tuple[int, float], steps: list[tuple[int, float]]) -> None:
    assert ladder(Amount(*most), RATES) == steps


def after(adaptation: Adaptation, *waits: tuple[int, int], start_us: int = 0) -> int:
    """Lets each of (how long, what waits then), in milliseconds, go by. Returns the time then."""
    now = start_us
    for lasts_ms, waiting_ms in waits:
        for _ in range(lasts_ms * MS // LOOK_US):
            adaptation.observe(waiting_ms * MS, now)
            now += LOOK_US
    return now


@pytest.mark.parametrize(
    ("waits", "amount"),
    [
        ([(10_000, 0)], (3, 6.0)),
        ([(10_000, 90)], (3, 6.0)),
        ([(100, 0), (250, 550)] * 20, (3, 6.0)),
        ([IDLE, (350, 200)], (3, 6.0)),
        ([IDLE, (550, 200)], (4, 6.0)),
        ([IDLE, (800, 200)], (6, 6.0)),
        ([IDLE, (1050, 200)], (6, 3.0)),
        ([IDLE, (5000, 200)], (6, 1.5)),
        ([IDLE, (500, 400), (300, 300), (300, 250), (300, 200), (300, 160)], (4, 6.0)),
        ([(100, 500), (100, 400), (100, 330), (100, 270), (100, 210), (100, 160), (100, 120), (400, 90)], (3, 6.0)),
        ([IDLE, (300, 600)], (3, 6.0)),
        ([IDLE, (400, 600)], (6, 1.5)),
    ],
    ids=[
        "idle line",
        "late acknowledgements",
        "lost packets that come again",
        "a third of a second",
        "thin line, first step",
        "second step",
        "third step",
        "far too thin",
        "going down by itself",
        "what a call begins with",
        "no standstill yet",
        "standstill",
    ],
)
def test_what_waits_decides(waits: list[tuple[int, int]], amount: tuple[int, float]) -> None:
    adaptation = Adaptation(BALANCED, RATES)
    after(adaptation, *waits)
    assert adaptation.amount == amount


def test_it_is_fast_down_and_slow_up() -> None:
    adaptation = Adaptation(BALANCED, RATES)
    assert adaptation.observe(FAR_US, 0) == (6, 1.5)
    adaptation.observe(FAR_US / 3, LOOK_US)  # a thin line empties slowly
    seen = []
    now = 0
    for now in range(2 * LOOK_US, 60_000_000, LOOK_US):
        amount = adaptation.observe(0, now)
        if not seen or seen[-1][1] != amount:
            seen.append((now, amount))
    assert [amount for _, amount in seen] == [(6, 1.5), (6, 3.0), (6, 6.0), (4, 6.0), (3, 6.0)]
    assert all(later - earlier >= CLIMB_US for (earlier, _), (later, _) in itertools.pairwise(seen))
    assert not adaptation.lowered
    assert adaptation.downs == 1
    assert adaptation.ups == 4


def test_after_a_standstill_it_is_back_soon() -> None:
    adaptation = Adaptation(BALANCED, RATES)
    now = after(adaptation, IDLE, (1200, 1000))
    assert adaptation.amount == (6, 1.5)
    now = after(adaptation, (500, 0), start_us=now)
    assert adaptation.amount == (6, 1.5)
    after(adaptation, (4000, 0), start_us=now)
    assert adaptation.amount == BALANCED


def test_a_step_up_that_was_too_much_is_tried_less_and_less_often() -> None:
    """A line that takes (6, 3.0) and no more."""
    adaptation, downs = Adaptation(BALANCED, RATES), list[int]()
    waiting = 0
    for now in range(0, 600_000_000, LOOK_US):
        enough = adaptation.amount in ((6, 3.0), (6, 1.5))
        waiting = max(waiting - LOOK_US // 4, 0) if enough else waiting + LOOK_US // 4
        before = adaptation.downs
        adaptation.observe(waiting, now)
        if adaptation.downs > before:
            downs.append(now)
    tries = [later - earlier for earlier, later in itertools.pairwise(downs) if later - earlier > CLIMB_US]
    assert len(downs) < 40
    assert min(tries[-2:]) > LONGEST_CLIMB_US / 2


def test_steps_are_not_taken_faster_than_they_show() -> None:
    adaptation, times = Adaptation(Amount(1, 12.0), RATES), list[int]()
    for now in range(0, 3_000_000, 10_000):
        before = adaptation.downs
        adaptation.observe(BEHIND_US + 1, now)
        if adaptation.downs > before:
            times.append(now)
    assert times[0] == PATIENCE_US
    assert {later - earlier for earlier, later in itertools.pairwise(times)} == {STEP_US}
    assert adaptation.amount == (6, 1.5)


def test_what_is_wanted_may_change_meanwhile() -> None:
    adaptation = Adaptation(BALANCED, RATES)
    after(adaptation, IDLE, (800, 200))
    adaptation.want(Amount(1, 12.0))
    assert adaptation.amount == (3, 12.0)
    after(adaptation, (100, 600), start_us=5_000_000)
    adaptation.want(Amount(6, 1.5))
    assert adaptation.amount == (6, 1.5)
    assert not adaptation.lowered
