"""The timeline that frames and windows share: when samples were captured, and when they are due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.client.core.clock import ServerClock
from earshot.client.core.timeline import (
    CAPTURE_SMOOTHING,
    GAP_US,
    PlayoutTimeline,
    SampleClock,
    SendTimeline,
    wrapped_timestamp,
)
from earshot.protocol.messages import Pong
from earshot.protocol.packet import Trace
from earshot.protocol.sequence import CLOCK_MODULUS, SEQUENCE_MODULUS, TIMESTAMP_MODULUS

RATE = 24_000
BLOCK, BLOCK_US = 240, 10_000
SPURT_END_US = 1_000_000


def clock(offset_us: int) -> ServerClock:
    made = ServerClock()
    made.ping(0)
    made.pong(Pong(ping_us=0, received_us=offset_us, sent_us=offset_us), 0)
    return made


@given(st.integers(0, 1 << 40), st.sampled_from([24_000, 44_100, 48_000]))
def test_samples_and_microseconds(samples: int, rate: int) -> None:
    converter = SampleClock(rate)
    assert converter.us(rate) == 1e6
    assert converter.samples(converter.us(samples)) == pytest.approx(samples, rel=1e-12)


@given(st.integers(0, 1 << 40), st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_numbers_go_on_over_every_wrap(start: int, counts: list[int]) -> None:
    timeline = SendTimeline(RATE, sequence=start)
    expected = start
    for count in counts:
        assert timeline.take_sequence(count) == expected % SEQUENCE_MODULUS
        expected += count
    assert timeline.sequence == expected
    assert wrapped_timestamp(start) == start % TIMESTAMP_MODULUS


def test_capture_times_are_smoothed() -> None:
    timeline = SendTimeline(RATE)
    timeline.follow(1_000_000)
    timeline.advance(BLOCK)
    assert timeline.captured_us(BLOCK) == 1_000_000
    late = GAP_US  # as late as jitter may be
    assert timeline.lost(1_000_000 + BLOCK_US + late) == 0
    timeline.follow(1_000_000 + BLOCK_US + late)
    assert timeline.captured_us(0) == 1_000_000 + BLOCK_US + late * CAPTURE_SMOOTHING


@given(st.integers(GAP_US + 1, 10_000_000))
def test_what_comes_much_later_has_lost_samples_before_it(late: int) -> None:
    timeline = SendTimeline(RATE, timestamp=77)
    timeline.follow(1_000_000)
    timeline.advance(BLOCK)
    captured = 1_000_000 + BLOCK_US + late
    lost = timeline.lost(captured)
    assert lost == round(late * RATE / 1e6)
    timeline.skip(lost)
    timeline.follow(captured)
    assert (timeline.position, timeline.captured_us(0)) == (77 + lost, captured)


def test_a_clock_that_jumps_back_is_followed_and_loses_nothing() -> None:
    timeline = SendTimeline(RATE)
    timeline.follow(1_000_000)
    timeline.advance(BLOCK)
    assert timeline.lost(500_000) == 0
    timeline.follow(500_000)
    assert timeline.captured_us(0) == 500_000


def test_traces_are_times_of_the_server() -> None:
    offset = CLOCK_MODULUS - 500_000  # its clock wraps meanwhile
    timeline = SendTimeline(RATE, clock(offset), lambda: 1_004_000)
    assert timeline.encoded_us(7) == 1_004_000
    assert timeline.trace(1_000_000.4, 1_001_000, None) == Trace(500_000, 10, 0)
    assert timeline.trace(1_000_000.4, 1_001_000, 1_004_000) == Trace(500_000, 10, 40)


def test_without_clocks_there_is_no_trace_and_encoding_takes_no_time() -> None:
    assert SendTimeline(RATE).trace(0.0, 1, 2) is None
    assert SendTimeline(RATE, ServerClock()).trace(0.0, 1, 2) is None  # no pong yet
    assert SendTimeline(RATE).encoded_us(7) == 7


@given(st.integers(-100_000, 100_000), st.integers(0, 480))
def test_a_sample_is_waited_for_until_it_is_due(ahead_us: int, filled: int) -> None:
    wait = PlayoutTimeline(RATE, SPURT_END_US).wait(5_000_000 + ahead_us, 5_000_000, filled)
    begins_us = (filled + wait) * 1e6 / RATE
    assert wait >= 0
    assert begins_us >= ahead_us  # not too soon
    assert wait == 0 or begins_us - ahead_us < 1e6 / RATE + 1e-6  # and not a sample too late


@pytest.mark.parametrize("announced", [True, False])
def test_a_stall_becomes_an_underrun_once_it_has_lasted_too_long(announced: bool) -> None:
    timeline = PlayoutTimeline(RATE, SPURT_END_US)
    timeline.silence_announced = announced
    timeline.ran_dry(1_000)
    timeline.block_played(1_000 + SPURT_END_US)
    assert (timeline.dry, timeline.underruns) == (True, 0)
    for later in (1, 2):  # it counts once
        timeline.block_played(1_000 + SPURT_END_US + later)
        assert (timeline.dry, timeline.underruns) == (False, 0 if announced else 1)


def test_play_out_that_goes_on_in_time_has_not_stalled() -> None:
    timeline = PlayoutTimeline(RATE, SPURT_END_US)
    timeline.ran_dry(1_000)
    timeline.resume()
    timeline.block_played(1_000 + 2 * SPURT_END_US)
    assert (timeline.dry, timeline.underruns) == (False, 0)
