"""Alignment of a speaker's records, with invented times."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest

from earshot.recording.alignment import EARLY_S, LOOK_S, MOST_WAITING, AlignedRecord, Aligner, Fader
from earshot.recording.format import Spoken, clamp_ticks
from tests.recordings import HOP

RATE, FRAMES = 24_000, 60  # 0.8 s is a whole number of ticks
LENGTH = FRAMES * HOP


def part(count: int, start_s: float, frames: int = FRAMES) -> Spoken:
    return Spoken(1, 1, frames, count % (1 << 32), clamp_ticks(round(start_s * 1e6)), b"")


def place(records: Iterable[Spoken]) -> list[AlignedRecord]:
    aligner, aligned, now = Aligner(RATE, HOP), [], 0
    for record in records:
        aligner.add(record)
        now = max(now, record.start_us * RATE // 1_000_000 + record.frames * HOP)
        aligned += list(aligner.take(now))
        for each in aligned[-3:]:
            assert each.record.start_us * RATE / 1e6 <= now - LOOK_S * RATE
    return aligned + list(aligner.take(None))


@pytest.mark.parametrize("first", [0, (1 << 32) - 3 * LENGTH - 17])
def test_even_speech_stays_where_it_began(first: int) -> None:
    aligned = place(part(first + k * LENGTH, 2 + k * LENGTH / RATE) for k in range(100))
    assert [each.position for each in aligned] == [2 * RATE + k * LENGTH for k in range(100)]
    assert {each.skip for each in aligned} == {0}


def test_the_fastest_nearby_says_where() -> None:
    """The first second came late, and so did every other record."""
    delays = [0.3, 0.25] + [0.05 * (k % 2) for k in range(40)]
    aligned = place(part(k * LENGTH, 1 + k * LENGTH / RATE + delay) for k, delay in enumerate(delays))
    assert [each.position for each in aligned] == [RATE + k * LENGTH for k in range(42)]


def test_pauses_are_as_long_as_they_were() -> None:
    records = [part(k * LENGTH, k * LENGTH / RATE) for k in range(3)]
    records += [part(3 * LENGTH + 5 * RATE, 3 * LENGTH / RATE + 5)]
    assert place(records)[3].position == 3 * LENGTH + 5 * RATE


def test_a_count_that_stood_still_while_nothing_came() -> None:
    """The client does not count while it is silent: only the arrival of its frames shows how long
    that was."""
    records = [part(k * LENGTH, k * LENGTH / RATE) for k in range(3)]
    records += [part(3 * LENGTH + 1, 3 * LENGTH / RATE + 60)]
    assert place(records)[3].position == 3 * LENGTH + 60 * RATE


@pytest.mark.parametrize("drift", [1e-3, -1e-3])
def test_a_sound_card_that_drifts_is_followed_within_a_frame(drift: float) -> None:
    """Tests speech without any pause: 10 minutes, at twenty times the drift of a bad sound card."""
    count = 300
    aligned = place(part(k * LENGTH, k * LENGTH * (1 + drift) / RATE) for k in range(count))
    for k, each in enumerate(aligned):
        exact = k * LENGTH * (1 + drift)
        assert abs(each.position - exact) <= HOP + RATE * LOOK_S * abs(drift)
    moved = sum(1 for one, two in pairwise(aligned) if two.position - one.position != LENGTH)
    assert 0 < moved < count / 3


def test_nothing_overlaps_and_nothing_is_far_from_when_it_came() -> None:
    """The counts of this client make no sense."""
    random, count, records = np.random.default_rng(2), 0, []
    for k in range(200):
        count += int(random.integers(0, 3 * RATE))
        records.append(part(count, k * 0.5, int(random.integers(1, 90))))
    end = None
    for each in place(records):
        start = each.record.start_us * RATE // 1_000_000
        assert start - EARLY_S * RATE - HOP <= each.position <= start + HOP
        size = each.record.frames * HOP - each.skip
        if size:
            assert end is None or each.position + each.skip >= end
            end = each.position + each.skip + size


def test_little_waits_whatever_the_times() -> None:
    aligner = Aligner(RATE, HOP)
    aligner.add(part(0, 100_000))
    for k in range(MOST_WAITING + 50):
        aligner.add(part(k, 1))
        list(aligner.take(RATE))
        assert aligner.waiting <= MOST_WAITING


def test_edges_fade_and_middles_are_exact() -> None:
    pcm = np.ones(1000, np.float32)
    fader, heard = Fader(RATE), np.zeros(6000, np.float32)

    def put(pieces: Iterable[tuple[int, np.ndarray]]) -> None:
        for position, piece in pieces:
            assert not heard[position : position + piece.size].any()
            heard[position : position + piece.size] = piece

    put(fader.push(100, pcm, False))
    put(fader.push(1100, pcm, False))
    put(fader.push(2100, pcm, True))
    put(fader.push(4000, pcm[:60], False))
    put(fader.push(4060, pcm[:1], False))
    put(fader.end())
    assert not heard[:100].any()
    assert (np.diff(heard[100:220]) > 0).all()
    assert (heard[220:1980] == 1).all()
    assert (np.diff(heard[1980:2100]) < 0).all()
    assert (np.diff(heard[2100:2220]) > 0).all()
    assert (heard[2220:2980] == 1).all()
    assert not heard[3100:4000].any()
    assert heard[4000:4061].all()
    assert not heard[4061:].any()
