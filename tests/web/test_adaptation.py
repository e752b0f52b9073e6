"""A page sends less on a thin line, and more again, at the same moments as a terminal."""

from __future__ import annotations

import numpy as np

from earshot.client.core.adaptation import Adaptation, Amount
from tests.web.node import run_js

RATES = [1.5, 3.0, 6.0, 12.0]
MOST = Amount(3, 6.0)
LOOK_US = 50_000
Look = tuple[int, int, tuple[int, float] | None]
"""What waits, when, and what is wanted from now on if that is another."""


def at_every_look(*waits: tuple[int, int]) -> list[Look]:
    """Each of (how long, what waits then), in milliseconds."""
    waiting = [1000 * ms for lasts, ms in waits for _ in range(lasts // 50)]
    return [(one, number * LOOK_US, None) for number, one in enumerate(waiting)]


def random_line(seed: int) -> list[Look]:
    """A line that gets better and worse, stands still and is looked at unevenly, while other rates
    are chosen now and then."""
    random, now, waiting, looks = np.random.default_rng(seed), 0, 0.0, list[Look]()
    for _ in range(4000):
        now += int(random.integers(5_000, 90_000))
        waiting = max(waiting + random.normal(0, 60_000) - 8_000, 0)
        if random.random() < 0.004:
            waiting = float(random.choice([0, 150_000, 900_000]))
        wanted = (int(random.integers(1, 7)), float(random.choice(RATES))) if random.random() < 0.002 else None
        looks.append((int(waiting), now, wanted))
    return looks


def test_a_page_sends_what_a_terminal_sends() -> None:
    cases = [
        at_every_look((400, 0), (5000, 200), (90_000, 0)),
        at_every_look((400, 0), (1200, 1000), (20_000, 0)),
        at_every_look((400, 0), (500, 400), (300, 300), (300, 250), (300, 200), (300, 160), (5000, 90)),
        *(random_line(seed) for seed in range(4)),
    ]
    expected = []
    for looks in cases:
        adaptation, amounts = Adaptation(MOST, RATES), list[list[float]]()
        for waiting_us, now_us, wanted in looks:
            if wanted is not None:
                adaptation.want(Amount(*wanted))
            amounts.append([*adaptation.observe(waiting_us, now_us), adaptation.lowered])
        expected.append(amounts)
    assert all(len({tuple(amount) for amount in amounts}) > 1 for amounts in expected)
    assert run_js("adaptation.mjs", data={"most": MOST, "rates": RATES, "cases": cases}) == expected


def test_a_look_that_comes_late_says_nothing_of_the_line() -> None:
    in_time, late = run_js("line.mjs", data=[[50] * 30, [900] * 3])
    assert in_time[0] == [3, 6, False]
    assert in_time[-1] == [6, 1.5, True]
    assert late == [[3, 6, False]] * 3
