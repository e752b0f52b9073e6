"""Two sound cards whose clocks differ, ten minutes long, in no time."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from earshot.client.core.replay import ArrivalTrace, Arrived, Told, Voice, replay
from earshot.codec.pcm import Pcm

HOP, RATE = 320, 24_000
FRAME_US = HOP * 1e6 / RATE
SECONDS, SETTLED_S = 600, 10
LOOP = 150
"""Frames after which the voice begins anew: to make ten minutes of it would take most of the
test's time."""


class Loop:
    """Says the same two seconds again and again."""

    def __init__(self) -> None:
        self._frames = Voice(RATE, HOP).sound(np.arange(LOOP * HOP)).reshape(LOOP, HOP)

    def push(self, codes: NDArray[np.int16], /) -> Pcm:
        numbers = codes[0].astype(np.int64) * 1024 + codes[1]
        return self._frames[numbers % LOOP].reshape(-1)


def drifting(ppm: float, frames: int) -> ArrivalTrace:
    """A speaker whose clock is so much slower than the listener's, over a line with jitter."""
    rng, last = random.Random(1), 0.0
    events = list[Arrived | Told]()
    for first in range(0, SECONDS * 75, frames):
        at = (first + frames) * FRAME_US * (1 + ppm * 1e-6) + 20_000 + abs(rng.gauss(0, 1_000))
        last = max(last, at)
        events.append(Arrived(round(last), 1, frames, first, first * HOP))
    return ArrivalTrace(RATE, HOP, events)


@pytest.mark.parametrize("ppm", [200.0, -200.0])
@pytest.mark.parametrize("frames", [1, 3])
def test_clocks_that_differ_cost_no_underrun_and_no_more_than_a_frame_of_delay(ppm: float, frames: int) -> None:
    heard = replay(drifting(ppm, frames), 1, 3 * HOP, Loop())
    figures = heard.figures()
    assert figures.underruns == 0
    assert figures.frames_missing == 0
    assert 0 < figures.time_scaled_share < 3 * abs(ppm) * 1e-6  # twelve hundredths of a second in ten minutes
    settled = np.array(heard.delays_us[SETTLED_S * 25 :])
    parts = np.array([np.nanmedian(part) for part in np.array_split(settled, 20)])
    assert parts.max() - parts[0] < FRAME_US
    assert parts[0] - parts.min() < FRAME_US
