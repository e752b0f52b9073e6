from __future__ import annotations

import random

import numpy as np
import pytest

from earshot.client.core.jitter import (
    MAX_TARGET_US,
    MIN_TARGET_US,
    SPARE_US,
    START_TARGET_US,
    DelayEstimator,
    JitterBuffer,
)

HOP, RATE = 320, 24_000
FRAME_US = HOP * 1e6 / RATE


def settle(delays_us: list[float]) -> DelayEstimator:
    delay = DelayEstimator(FRAME_US)
    for index, extra in enumerate(delays_us):
        delay.observe(index * FRAME_US, round(index * FRAME_US + extra))
    return delay


def test_a_clean_link_settles_at_the_least_target() -> None:
    assert DelayEstimator(FRAME_US).target_us == START_TARGET_US
    assert settle([700.0] * 400).target_us == MIN_TARGET_US


@pytest.mark.parametrize("spread_us", [30_000, 60_000, 120_000])
def test_target_tracks_the_measured_spread(spread_us: int) -> None:
    rng = random.Random(1)
    delay = settle([40_000 + rng.uniform(0, spread_us) for _ in range(1_500)])
    assert 0.8 * spread_us <= delay.target_us <= 1.1 * spread_us + SPARE_US


def test_target_rises_at_once_and_falls_by_half_a_second() -> None:
    delay = settle([0.0] * 400)
    for index in range(400, 406):
        delay.observe(index * FRAME_US, round(index * FRAME_US + 100_000))
    high = delay.target_us
    assert high >= 100_000
    for index in range(406, 556):  # two seconds
        delay.observe(index * FRAME_US, round(index * FRAME_US))
    assert MIN_TARGET_US + FRAME_US < delay.target_us < high / 2
    for index in range(556, 756):
        delay.observe(index * FRAME_US, round(index * FRAME_US))
    assert delay.target_us == MIN_TARGET_US


def stall(delay: DelayEstimator, first: int, frames: int) -> int:
    """Lets some frames come at once, in time for the last of them, and then a second of talk."""
    for index in range(first, first + frames + 75):
        delay.observe(index * FRAME_US, round(max(index, first + frames) * FRAME_US))
        assert delay.target_us == MIN_TARGET_US or index >= first + frames or first > 700
    return first + frames + 75


def test_the_target_does_not_follow_a_rare_stall_but_frequent_ones() -> None:
    delay, at = settle([0.0] * 400), 400
    for _ in range(2):
        at = stall(delay, at, 20)
        assert delay.target_us == MIN_TARGET_US
    for index in range(at, at + 450):  # six seconds, after which stalls are rare again
        delay.observe(index * FRAME_US, round(index * FRAME_US))
    at = stall(delay, at + 450, 20)
    assert delay.target_us == MIN_TARGET_US
    at = stall(delay, stall(delay, at, 20), 20)
    assert delay.target_us > 100_000


def test_a_network_that_has_become_slower_is_believed_within_three_packets() -> None:
    delay = settle([0.0] * 400)
    for index in range(400, 408):
        delay.observe(index * FRAME_US, round(index * FRAME_US + 80_000))
    assert delay.target_us >= 80_000


@pytest.mark.parametrize("frames", [2, 3, 6])
def test_the_target_is_longer_than_a_packet(frames: int) -> None:
    delay = DelayEstimator(FRAME_US)
    for index in range(0, 600, frames):
        delay.observe(index * FRAME_US, round((index + frames) * FRAME_US), frames)
    assert delay.base_us == pytest.approx(FRAME_US, abs=1)
    assert frames * FRAME_US <= delay.target_us <= (frames + 0.5) * FRAME_US


def test_only_the_last_two_seconds_are_the_reference() -> None:
    delay = settle([0.0] * 10 + [50_000.0] * 400)
    assert delay.base_us == pytest.approx(50_000, abs=1)


def test_a_jump_of_the_timeline_starts_again() -> None:
    delay = settle([0.0] * 100)
    media = 100 * FRAME_US
    delay.observe(media + 3.6e9, round(media))
    assert delay.resyncs == 1
    delay.observe(media + 3.6e9 + FRAME_US, round(media + FRAME_US))
    assert delay.base_us == pytest.approx(-3.6e9, abs=1)
    assert delay.target_us <= START_TARGET_US


def test_target_is_bounded() -> None:
    rng = random.Random(2)
    delay = settle([rng.uniform(0, 2_900_000) for _ in range(500)])
    for _ in range(100):
        delay.underrun()
    assert delay.target_us <= MAX_TARGET_US


def buffer_of(numbers: list[int], **settings: int) -> JitterBuffer:
    jitter = JitterBuffer(RATE, HOP, **settings)
    for at, number in enumerate(numbers):
        put(jitter, number, at)
    return jitter


def put(jitter: JitterBuffer, number: int, at: int = 0) -> None:
    code = np.array([number % 1024], np.int16)
    jitter.put(number % (1 << 16), number * HOP % (1 << 32), [(code, HOP)], round(at * FRAME_US), None)


def drain(jitter: JitterBuffer) -> list[int]:
    taken = []
    while (frame := jitter.take()) is not None:
        taken.append(int(frame.data[0]))
    return taken


def adds_up(jitter: JitterBuffer) -> bool:
    return jitter.received == jitter.taken + jitter.late + jitter.duplicates + jitter.overflow + len(jitter)


def test_frames_come_out_in_order() -> None:
    jitter = buffer_of([3, 1, 2, 0, 5, 4])
    assert drain(jitter) == [0, 1, 2, 3, 4, 5]
    assert (jitter.missing, jitter.late, jitter.duplicates) == (0, 0, 0)


def test_sequence_and_timestamp_wrap() -> None:
    start = (1 << 32) // HOP - 2  # both numbers wrap close to each other
    start -= (start - ((1 << 16) - 3)) % (1 << 16)
    numbers = [start + index for index in range(6)]
    jitter = buffer_of(numbers)
    assert drain(jitter) == [number % 1024 for number in numbers]
    assert jitter.missing == 0


def test_missing_late_duplicate_and_ancient_frames_are_counted() -> None:
    jitter = buffer_of([0, 1, 1, 4])
    assert jitter.duplicates == 1
    assert drain(jitter) == [0, 1, 4]
    assert jitter.missing == 2
    put(jitter, 2)  # given up: late
    put(jitter, 2)  # and again
    put(jitter, 1)  # played
    assert (jitter.late, jitter.duplicates) == (1, 3)
    for number in range(5, 400):
        put(jitter, number)
    drain(jitter)
    put(jitter, 3)
    assert jitter.late == 2
    assert adds_up(jitter)


def test_overflow_drops_the_oldest() -> None:
    jitter = buffer_of(list(range(30)), max_frames=10)
    assert jitter.overflow == 20
    assert drain(jitter) == list(range(20, 30))
    assert jitter.missing == 0
    assert adds_up(jitter)


def test_the_far_future_costs_a_bounded_amount() -> None:
    jitter = buffer_of([0, 1])
    drain(jitter)
    put(jitter, 30_000)
    assert drain(jitter) == [30_000 % 1024]
    assert jitter.missing == 29_998
    assert len(jitter._order._given_up) <= 112


def test_packets_of_several_frames() -> None:
    jitter = JitterBuffer(RATE, HOP)
    codes = [(np.array([index], np.int16), HOP) for index in range(3)]
    jitter.put(65_535, (1 << 32) - HOP, codes, 0, None)
    jitter.put(2, 2 * HOP, codes, 0, None)
    frames = [jitter.take() for _ in range(6)]
    first = frames[0]
    assert first is not None
    for index, frame in enumerate(frames):
        assert frame is not None
        assert (frame.sequence, frame.timestamp) == (first.sequence + index, first.timestamp + index * HOP)
    assert jitter.missing == 0
