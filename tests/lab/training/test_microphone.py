"""What microphones do to sound, against what it should do."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.lab.training.microphone import hush, low_pass, overload

RATE = 24_000


def tone(hertz: float, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)).astype(np.float32)


@pytest.mark.parametrize("cutoff", [3400.0, 8000.0])
def test_low_pass_passes_what_is_low(cutoff: float) -> None:
    pcm = np.stack([tone(cutoff - 500), tone(cutoff + 500)])
    heard = low_pass(pcm, cutoff, RATE)
    assert (heard.shape, heard.dtype) == (pcm.shape, np.float32)
    middle = slice(500, -500)
    np.testing.assert_allclose(heard[0, middle], pcm[0, middle], atol=1e-3)
    assert np.abs(heard[1, middle]).max() < 1e-3
    half = low_pass(tone(cutoff)[None], cutoff, RATE)
    assert np.sqrt(np.mean(half[0, middle] ** 2)) == pytest.approx(0.25 / np.sqrt(2), rel=0.02)


@pytest.mark.parametrize("hard", [True, False])
def test_what_is_overdriven_clips_and_gets_louder(hard: bool) -> None:
    pcm = np.stack([tone(100), tone(100, 0.05)])
    heard = overload(pcm, 6.0206, hard)
    assert heard.dtype == np.float32
    assert np.abs(heard).max() == pytest.approx(np.abs(pcm).max(), rel=1e-3)
    assert (np.abs(heard) >= np.abs(pcm) - 1e-6).all()
    if hard:
        np.testing.assert_allclose(heard[1], 2 * pcm[1], rtol=1e-4)
        assert np.mean(np.abs(heard[0]) > 0.4999) == pytest.approx(2 / 3, abs=0.01)
    else:
        expected = np.tanh(2 * pcm / 0.5) * 0.5 / np.tanh(2)
        np.testing.assert_allclose(heard, expected, atol=1e-3)
    assert not overload(np.zeros((1, 10), np.float32), 6, hard).any()


def test_hush_attenuates_a_stretch_and_nothing_else() -> None:
    pcm = np.stack([tone(1000), -tone(1000)])
    heard = hush(pcm, 0.25, 0.75, 40, RATE)
    assert heard.dtype == np.float32
    np.testing.assert_array_equal(heard[:, : RATE // 4 - 70], pcm[:, : RATE // 4 - 70])
    np.testing.assert_allclose(heard[:, -RATE // 4 + 70 :], pcm[:, -RATE // 4 + 70 :], atol=1e-6)
    inside = slice(RATE // 4 + 70, 3 * RATE // 4 - 70)
    np.testing.assert_allclose(heard[:, inside], 0.01 * pcm[:, inside], atol=1e-5)
    assert (np.abs(heard) <= np.abs(pcm) + 1e-6).all()


def test_hush_of_everything_is_silence() -> None:
    np.testing.assert_allclose(hush(tone(1000)[None], 0, 1, float("inf"), RATE), 0, atol=1e-6)
    np.testing.assert_allclose(hush(tone(1000)[None, :50], 0, 1, float("inf"), RATE), 0, atol=1e-6)
