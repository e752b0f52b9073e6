"""Rooms: reverberation times measured on what is synthesised, alignment, and measured responses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.codec.errors import UsageError
from earshot.lab.training.reverberation import (
    LONGEST_S,
    as_response,
    decay_curve,
    measured_rooms,
    reverberate,
    rt60,
    synthesise,
    synthesised_rooms,
)

RATE = 24_000


def decaying(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    time = np.arange(int(1.5 * seconds * rate)) / rate
    return (random.standard_normal(time.size) * 10 ** (-3 * time / seconds)).astype(np.float32)


@pytest.mark.parametrize("seconds", [0.2, 0.7, 1.4])
def test_reverberation_time_of_a_known_decay(seconds: float) -> None:
    """An exact exponential falls by 60 dB in its time; with a loud direct sound before it too."""
    time = np.arange(int(2 * seconds * RATE)) / RATE
    exact = (10 ** (-3 * time / seconds)).astype(np.float32)
    assert rt60(exact, RATE) == pytest.approx(seconds, rel=0.02)
    curve = decay_curve(exact)
    assert curve[0] == 0
    assert curve[int(seconds * RATE / 2)] == pytest.approx(-30, abs=0.1)
    close = 0.01 * decaying(seconds)
    close[0] = 10
    assert rt60(close, RATE) == pytest.approx(seconds, rel=0.1)


def test_reverberation_time_that_cannot_be_told() -> None:
    for response in (np.zeros(0), np.zeros(100), np.eye(1, 5000)[0], np.ones(20)):
        assert np.isnan(rt60(response.astype(np.float32), RATE))


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_synthesised_rooms_have_the_times_asked_for(rate: int) -> None:
    rooms = synthesised_rooms(seed=5, rooms=41, sample_rate=rate, seconds=(0.3, 1.3))
    wanted = np.linspace(0.3, 1.3, 41)
    measured = np.array([rt60(room, rate) for room in rooms])
    np.testing.assert_allclose(measured, wanted, rtol=0.15)
    assert abs(np.mean(measured / wanted) - 1) < 0.03
    for room in rooms:
        assert np.sum(room**2) == pytest.approx(1, rel=1e-4)
        assert np.abs(room).argmax() <= 0.0005 * rate + 1
        assert room.dtype == np.float32


def test_talkers_are_near_and_far() -> None:
    """Direct over reverberant energy, in dB: some rooms are those of a headset, some of a table."""
    ratios = []
    for room in synthesised_rooms(seed=1, rooms=60, sample_rate=RATE, seconds=(0.3, 1.3)):
        direct = np.sum(room[: int(0.0025 * RATE)] ** 2)
        ratios.append(10 * np.log10(direct / (np.sum(room**2) - direct)))
    assert min(ratios) < -5
    assert max(ratios) > 5


def test_rooms_are_a_function_of_their_seed() -> None:
    def one(seed: int) -> np.ndarray:
        return synthesise(np.random.default_rng(seed), RATE, 0.4)

    np.testing.assert_array_equal(one(1), one(1))
    assert not np.array_equal(one(1), one(2))
    rooms = synthesised_rooms(3, 2, RATE, (0.3, 0.5))
    np.testing.assert_array_equal(rooms[1], synthesised_rooms(3, 2, RATE, (0.3, 0.5))[1])
    assert not np.array_equal(rooms[1], synthesised_rooms(4, 2, RATE, (0.3, 0.5))[1])
    assert synthesised_rooms(3, 1, RATE, (0.3, 0.5))[0].size == int(0.4 * RATE)


def test_a_response_starts_with_its_direct_sound() -> None:
    measured = np.zeros(3 * RATE, np.float32)
    measured[1000], measured[1100] = 0.5, 0.25
    response = as_response(measured, RATE)
    assert response.size == int(LONGEST_S * RATE)
    assert np.flatnonzero(response).tolist() == [12, 112]
    assert np.sum(response**2) == pytest.approx(1)
    assert as_response(np.zeros(100, np.float32), RATE).size == 0
    assert as_response(np.zeros(0, np.float32), RATE).size == 0


def test_reverberation_is_convolution_in_place(speech: np.ndarray) -> None:
    pcm = np.stack([speech[:6000], speech[6000:12_000]])
    response = decaying(0.1)
    heard = reverberate(pcm, response)
    assert (heard.shape, heard.dtype) == (pcm.shape, np.float32)
    for channel in (0, 1):
        expected = np.convolve(pcm[channel].astype(np.float64), response)[:6000]
        np.testing.assert_allclose(heard[channel], expected, atol=1e-4 * np.abs(expected).max())


def test_level_stays_about_what_it_was(speech: np.ndarray) -> None:
    changes = []
    for room in synthesised_rooms(seed=2, rooms=20, sample_rate=RATE, seconds=(0.3, 1.3)):
        heard = reverberate(speech[None, : 4 * RATE], room)
        changes.append(10 * np.log10(np.mean(heard**2) / np.mean(speech[: 4 * RATE] ** 2)))
    assert abs(np.mean(changes)) < 3
    assert np.abs(changes).max() < 8


def test_measured_responses(tmp_path: Path) -> None:
    folder = tmp_path / "rooms"
    folder.mkdir()
    for i, seconds in enumerate((0.1, 0.5, 0.9, 3.0)):
        response = np.concatenate([np.zeros(200, np.float32), [5.0], decaying(seconds, 48_000)])
        soundfile.write(folder / f"{i}.wav", response, 48_000, subtype="FLOAT")
    (folder / "4.wav").write_bytes(b"no sound")
    rooms, left_out = measured_rooms(str(folder), RATE, (0.3, 1.3), most=64)
    assert [rt60(room, RATE) for room in rooms] == pytest.approx([0.5, 0.9], rel=0.15)
    assert left_out == 3
    assert all(np.abs(room).argmax() == 12 for room in rooms)
    rooms, left_out = measured_rooms(str(folder), RATE, (0.05, 5), most=2)
    assert (len(rooms), left_out) == (2, 0)
    with pytest.raises(UsageError, match=r"none of the 5 files under .* impulse response"):
        measured_rooms(str(folder), RATE, (1.1, 1.2), most=64)
    with pytest.raises(UsageError, match="no audio at"):
        measured_rooms(str(tmp_path / "nothing"), RATE, (0.3, 1.3), most=64)
