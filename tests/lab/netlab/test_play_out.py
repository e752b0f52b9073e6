"""What play-out makes of the networks of netlab, in fake time: packets go over two of their lines,
on a machine that is never late."""

from __future__ import annotations

import random

import numpy as np
import pytest

from earshot.client.core.replay import ArrivalTrace, Arrived, replay
from earshot.lab.netlab.impairment import Impairment
from earshot.lab.netlab.profiles import PROFILES

RATE, HOP, BLOCK = 24_000, 320, 160
FRAME_S = HOP / RATE
SECONDS, FIRST_S = 20, 1
PACKET_BYTES = 140
ENCODED_S = 0.0015


def over(key: str, frames: int) -> tuple[ArrivalTrace, float]:
    """Returns when packets of so many frames come over two lines of a profile, and what the path
    takes by itself."""
    profile = next(each for each in PROFILES if each.key == key)
    chance, lines = random.Random(3), [Impairment(profile, seed) for seed in (6, 7)]
    sent = [
        (first, (first + frames) * FRAME_S + ENCODED_S + abs(chance.gauss(0, 0.0005)))
        for first in range(0, round(SECONDS / FRAME_S), frames)
    ]
    for line in lines:
        carried = [(first, line.arrival(at_s, PACKET_BYTES)) for first, at_s in sent]
        sent = [(first, at_s) for first, at_s in carried if at_s is not None]
    packets = [Arrived(round(at_s * 1e6), 1, frames, first, first * HOP) for first, at_s in sent]
    return ArrivalTrace(RATE, HOP, [*packets]), profile.path_ms


@pytest.mark.parametrize(
    ("key", "frames", "most_ms", "underruns"),
    [
        ("lan", 1, 45, 0),
        ("lan", 2, 55, 0),
        ("lan", 3, 65, 0),
        ("rtt50", 1, 45, 0),
        ("rtt50", 3, 65, 0),
        ("dsl", 1, 50, 0),
        ("dsl", 3, 78, 1),
        ("wifi", 1, 95, 3),
        ("wifi", 3, 125, 3),
    ],
)
def test_delay_over_the_path_and_underruns(key: str, frames: int, most_ms: float, underruns: int) -> None:
    """`most_ms` is the 95th percentile from a sample's capture to when the output takes it, beyond
    the path; the bursts of Wi-Fi are no part of that."""
    trace, path_ms = over(key, frames)
    heard = replay(trace, 1, BLOCK)
    delays = [
        (heard.started_us + index * BLOCK * 1e6 / RATE) / 1000 - float(places[0]) * 1000 / RATE
        for index, places in enumerate(heard.positions)
        if index * BLOCK > FIRST_S * RATE and not np.isnan(places[0])
    ]
    assert np.percentile(delays, 95) - path_ms < most_ms
    assert heard.playout.underruns <= underruns
    assert heard.playout.jitter.missing == 0
