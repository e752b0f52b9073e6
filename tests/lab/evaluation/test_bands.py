"""Bands of signals whose SNR and level are known."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.codec.pcm import Pcm
from earshot.lab.evaluation.bands import EDGES, LEVEL, MOST_DB, SNR, band_names, band_values, key

RATE = 24_000


def noise(low: float, high: float, seed: int = 0, rate: int = RATE) -> Pcm:
    """Returns 2 s of noise with nothing outside `low` to `high` Hz."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=2 * rate))
    hertz = np.fft.rfftfreq(2 * rate, 1 / rate)
    spectrum[(hertz < low) | (hertz >= high)] = 0
    return np.asarray(np.fft.irfft(spectrum), np.float32)


def test_the_bands_of_the_table() -> None:
    assert band_names() == [
        "0-250", "250-500", "500-1000", "1000-1500", "1500-2000", "2000-3000", "3000-4000", "4000-6000", "6000-8000",
    ]  # fmt: skip


@pytest.mark.parametrize("gain_db", [-9.0, 0.0, 3.0])
def test_level_is_the_gain_in_every_band(gain_db: float) -> None:
    original = noise(0, RATE / 2)
    values = band_values(original, original * np.float32(10 ** (gain_db / 20)), RATE)
    assert [values[key(LEVEL, band)] for band in band_names()] == pytest.approx([gain_db] * 9, abs=1e-3)


@pytest.mark.parametrize("snr_db", [-3.0, 10.0])
def test_snr_of_noise_that_is_added(snr_db: float) -> None:
    original = noise(0, RATE / 2)
    values = band_values(original, original + noise(0, RATE / 2, 1) * np.float32(10 ** (-snr_db / 20)), RATE)
    assert [values[key(SNR, band)] for band in band_names()] == pytest.approx([snr_db] * 9, abs=0.8)


def test_what_is_lost_in_one_band_shows_there_alone() -> None:
    lost = noise(1000, 1500)
    original = noise(0, 1000) + lost + noise(1500, RATE / 2)
    values = band_values(original, original - lost, RATE)
    assert values[key(LEVEL, "1000-1500")] < -15  # type: ignore[operator]
    assert values[key(SNR, "1000-1500")] == pytest.approx(0, abs=0.5)
    assert values[key(LEVEL, "250-500")] == pytest.approx(0, abs=0.01)
    assert values[key(SNR, "3000-4000")] > 30  # type: ignore[operator]


def test_identical_signals_have_the_best_values_there_are() -> None:
    values = band_values(noise(0, RATE / 2), noise(0, RATE / 2), RATE)
    assert [values[key(SNR, band)] for band in band_names()] == [MOST_DB] * 9
    assert [values[key(LEVEL, band)] for band in band_names()] == pytest.approx([0] * 9)


def test_bands_that_the_original_leaves_empty_have_no_value() -> None:
    inside = noise(300, 450) * np.hanning(2 * RATE).astype(np.float32)
    values = band_values(inside, noise(0, RATE / 2), RATE)
    assert values[key(SNR, "250-500")] is not None
    assert values[key(LEVEL, "3000-4000")] is None
    narrow = band_values(noise(0, 4000, rate=8000), noise(0, 4000, 1, rate=8000), 8000)
    assert [band for low, band in zip(EDGES, band_names(), strict=False) if narrow[key(SNR, band)] is None] == [
        "4000-6000",
        "6000-8000",
    ]
    assert set(band_values(np.zeros(100, np.float32), np.ones(100, np.float32), RATE).values()) == {None}
