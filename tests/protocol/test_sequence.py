"""Continuity of streams whose numbers wrap, against models that count without wrapping."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.protocol.sequence import (
    SEQUENCE_MODULUS,
    TIMESTAMP_MODULUS,
    Arrival,
    ReorderTracker,
    SequenceTracker,
    unwrap,
    wrap_difference,
)

HALF = SEQUENCE_MODULUS // 2
MODULI = st.sampled_from([SEQUENCE_MODULUS, TIMESTAMP_MODULUS])
ANY = st.integers(0, 1 << 40)


def test_differences_of_numbers_that_wrap() -> None:
    assert wrap_difference(3, 65_534, SEQUENCE_MODULUS) == 5
    assert wrap_difference(65_534, 3, SEQUENCE_MODULUS) == -5
    assert wrap_difference(0x8000, 0, SEQUENCE_MODULUS) == -0x8000  # half way round counts as back
    assert wrap_difference(0x7FFF, 0, SEQUENCE_MODULUS) == 0x7FFF


@given(st.integers(0, SEQUENCE_MODULUS - 1), st.integers(-HALF, HALF - 1))
def test_differences_are_what_was_added(start: int, step: int) -> None:
    assert wrap_difference((start + step) % SEQUENCE_MODULUS, start, SEQUENCE_MODULUS) == step


@given(MODULI, ANY, st.floats(-0.5, 0.499))
def test_unwrapping_finds_every_number_that_is_less_than_half_way_round(modulus: int, near: int, turn: float) -> None:
    number = near + int(turn * modulus)
    assert unwrap(number % modulus, near, modulus) == number


@given(MODULI, ANY, st.lists(st.integers(0, HALF - 1), max_size=50))
def test_a_tracker_measures_gaps_over_any_number_of_wraps(modulus: int, start: int, gaps: list[int]) -> None:
    tracker = SequenceTracker(modulus)
    number = start % modulus
    assert (tracker.gap(number), tracker.unwrap(number)) == (0, number)  # the first may be any
    tracker.expect(number)
    for gap in gaps:
        number += gap
        assert (tracker.gap(number % modulus), tracker.unwrap(number % modulus)) == (gap, number)
        number += 1
        tracker.expect(number)


@given(MODULI, ANY, st.integers(1, 1000), st.integers(0, HALF - 1000))
def test_what_is_late_or_comes_twice_is_behind(modulus: int, start: int, count: int, age: int) -> None:
    tracker = SequenceTracker(modulus)
    tracker.expect(start + count)
    assert tracker.gap((start + count) % modulus) == 0
    assert tracker.gap(start % modulus) == -count
    assert tracker.gap((start - age) % modulus) == -count - age
    assert tracker.gap((start + count) % modulus) == 0  # measuring changes nothing


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_tracker_takes_wrapped_and_unwrapped_numbers(wrapped: bool) -> None:
    tracker = SequenceTracker(SEQUENCE_MODULUS)
    tracker.expect(SEQUENCE_MODULUS * (not wrapped) + 5)
    assert tracker.gap(7) == 2
    assert tracker.gap(SEQUENCE_MODULUS - 1) == -6


def test_after_a_reset_any_number_may_come() -> None:
    tracker = SequenceTracker(SEQUENCE_MODULUS)
    tracker.expect(100)
    assert tracker.gap(50_000) < 0
    tracker.reset()
    assert (tracker.gap(50_000), tracker.unwrap(50_000)) == (0, 50_000)


@given(st.lists(st.integers(0, 30), max_size=100), st.integers(1, 40), st.randoms(use_true_random=False))
def test_every_number_is_handed_out_late_or_a_duplicate(numbers: list[int], memory: int, random: object) -> None:
    """Numbers come in any order and any number of times, and are handed out now and then. A model
    that remembers everything says what each of them is."""
    tracker, waiting = ReorderTracker(memory), set[int]()
    seen: set[int] = set()
    out: list[int] = []
    counts: Counter[Arrival] = Counter()
    for index, number in enumerate(numbers):
        arrival = tracker.arrive(number, waiting)
        counts[arrival] += 1
        if number in waiting:
            assert arrival is Arrival.DUPLICATE
        elif not out or number > out[-1]:
            assert arrival is Arrival.IN_TIME
            waiting.add(number)
        elif out[-1] + 1 - number > memory:
            assert arrival is Arrival.LATE
        elif number in seen or number < out[0]:  # nothing before the first was ever given up
            assert arrival is Arrival.DUPLICATE
        else:
            assert arrival is Arrival.LATE
        seen.add(number)
        if waiting and random.random() < 0.5:  # type: ignore[attr-defined]
            first = min(waiting)
            assert tracker.is_next(first) is (not out or first == out[-1] + 1)
            waiting.remove(first)
            out.append(first)
            tracker.hand_out(first)
        assert index + 1 == counts.total() == len(out) + len(waiting) + counts[Arrival.LATE] + counts[Arrival.DUPLICATE]
    assert out == sorted(set(out))
    assert tracker.missing == (out[-1] - out[0] + 1 - len(out) if out else 0)


def test_a_number_that_was_given_up_is_late_once_and_then_a_duplicate() -> None:
    tracker = ReorderTracker(memory=8)
    tracker.hand_out(1)
    tracker.hand_out(4)
    assert tracker.missing == 2
    assert [tracker.arrive(2, ()) for _ in range(2)] == [Arrival.LATE, Arrival.DUPLICATE]
    assert tracker.arrive(4, ()) is Arrival.DUPLICATE
    assert tracker.arrive(5, ()) is Arrival.IN_TIME


def test_what_is_older_than_the_memory_is_late() -> None:
    tracker = ReorderTracker(memory=8)
    for number in range(20):
        tracker.hand_out(number)
    assert tracker.arrive(12, ()) is Arrival.DUPLICATE
    assert tracker.arrive(11, ()) is Arrival.LATE


def test_a_long_gap_is_counted_but_only_its_end_is_remembered() -> None:
    tracker = ReorderTracker(memory=4)
    tracker.hand_out(0)
    tracker.hand_out(1_000_000)
    assert tracker.missing == 999_999
    assert len(tracker._given_up) == 4
