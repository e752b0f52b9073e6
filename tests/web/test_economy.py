"""A page spends what silence saves as a terminal does."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from earshot.client.core.adaptation import Amount
from earshot.client.core.economy import Economy
from earshot.client.net.line import Line
from earshot.client.settings import PACES
from tests.web.node import run_js

KBPS, RATES = 6.0, (1.5, 3.0, 6.0, 12.0)
LOOK_US = 50_000


def talk(seed: int, share: float, minutes: float = 3) -> list[tuple[int, int]]:
    """Frames so far, and when: somebody speaks such a share of the time, in turns of some seconds,
    and begins anew on another connection."""
    random, looks, frames, now_us, left = np.random.default_rng(seed), list[tuple[int, int]](), 0, 0, 0.0
    speaks = False
    for number in range(round(minutes * 60e6 / LOOK_US)):
        if left <= 0:
            speaks = not speaks
            left = random.exponential(4 * (share if speaks else 1 - share)) + 0.1
        left -= LOOK_US / 1e6
        now_us += LOOK_US
        frames = 0 if number == 2800 else frames + (3 + number % 2 if speaks else 0)
        looks.append((frames, now_us))
    return looks


def terminal(looks: list[tuple[int, int]]) -> list[list[int]]:
    economy, lines = Economy(75.0), []
    for pace in PACES.values():
        lines.append(Line(Amount(pace.frames, KBPS), RATES))
        lines[-1].thrifty, lines[-1]._adapts = pace.thrifty, True
    chosen = []
    for frames, now_us in looks:
        economy.note(frames, now_us)
        for line in lines:
            line._economise(SimpleNamespace(traffic=SimpleNamespace(frames=frames)), now_us)  # type: ignore[arg-type]
        chosen.append([economy.choose(3, KBPS), *(line.amount.frames for line in lines)])
    return chosen


def test_a_page_takes_as_few_frames_in_a_message_as_a_terminal() -> None:
    cases = [talk(seed, share) for seed, share in enumerate((0.2, 0.4, 0.6, 0.9))]
    expected = [terminal(looks) for looks in cases]
    seen = {tuple(chosen) for case in expected for chosen in case}
    assert {chosen[2] for chosen in seen} == {1, 2, 3}  # balanced
    assert {(chosen[1], chosen[3]) for chosen in seen} == {(1, 7)}  # low, thrift
    assert run_js("economy.mjs", data={"kbps": KBPS, "cases": cases}) == expected
