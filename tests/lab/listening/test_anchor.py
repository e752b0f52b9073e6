"""The low anchor does what BS.1534-3 asks of it."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.codec.errors import UsageError
from earshot.lab.listening.anchor import low_pass


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100, 48_000])
def test_it_passes_what_is_below_3500_hz_and_stops_what_is_above(rate: int) -> None:
    impulse = np.zeros((rate, 1), np.float32)
    impulse[rate // 2] = 1
    spectrum = np.abs(np.fft.rfft(low_pass(impulse, rate)[:, 0].astype(float)))  # a bin is 1 Hz
    decibels = 20 * np.log10(spectrum + 1e-12)
    assert np.abs(decibels[:3501]).max() < 0.1
    assert decibels[4000:].max() < -25
    assert decibels[4500:].max() < -50


def test_nothing_is_late_and_the_length_stays() -> None:
    time = np.arange(7000) / 24_000
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)[:, None]
    heard = low_pass(np.hstack([tone, -tone]), 24_000)
    assert heard.shape == (7000, 2)
    assert heard.dtype == np.float32
    middle = slice(500, -500)
    assert np.abs(heard[middle, 0] - tone[middle, 0]).max() < 0.005
    assert np.abs(heard[middle, 1] + tone[middle, 0]).max() < 0.005


def test_the_shortest_sound() -> None:
    assert low_pass(np.ones((1, 1), np.float32), 24_000).shape == (1, 1)


def test_telephone_rates_have_nothing_to_take_away() -> None:
    with pytest.raises(UsageError, match="8000 Hz"):
        low_pass(np.zeros((100, 1), np.float32), 8000)
