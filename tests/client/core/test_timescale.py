from __future__ import annotations

import numpy as np
import pytest

from earshot.client.core.timescale import find_lag, lengthen, shorten
from earshot.codec.pcm import Pcm

RATE = 24_000


def sine(hertz: float, samples: int) -> Pcm:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / RATE)).astype(np.float32)


def peak_hertz(pcm: Pcm) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(pcm.size), 1 << 18))
    return float(np.argmax(spectrum)) * RATE / (1 << 18)


@pytest.mark.parametrize("hertz", [80.0, 120.0, 217.0, 333.0])
@pytest.mark.parametrize("change", [shorten, lengthen])
def test_speed_changes_and_pitch_does_not(hertz: float, change: object) -> None:
    stream, out, used = sine(hertz, RATE), [], 0
    shift = 0
    while used + 3_600 <= stream.size:
        part = stream[used : used + 3_600]
        lag, similarity = find_lag(part, 60, 360, 120)
        assert similarity > 0.98
        scaled = shorten(part, lag) if change is shorten else lengthen(part, lag)
        shift += scaled.size - part.size
        assert abs(scaled.size - part.size) == lag
        out.append(scaled)
        used += 3_600
    result = np.concatenate(out)
    assert result.size == used + shift
    assert peak_hertz(result) == pytest.approx(peak_hertz(stream), rel=0.01)
    largest_step = float(np.max(np.abs(np.diff(stream))))
    assert float(np.max(np.abs(np.diff(result)))) < 1.5 * largest_step  # no clicks at the seams
    assert float(np.sqrt(np.mean(result**2))) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_positions_stay_monotone_and_ends_stay() -> None:
    places = np.arange(1_000, dtype=np.float64)
    short, long = shorten(places, 300), lengthen(places, 300)
    assert (short.size, long.size) == (700, 1_300)
    for scaled in (short, long):
        assert (scaled[0], scaled[-1]) == (0, 999)
        assert np.all(np.diff(scaled) >= -1e-9)
        assert np.max(np.diff(scaled)) <= 2 + 1e-9


def test_period_is_found_within_what_there_is() -> None:
    tone = sine(100, 2_000)
    assert find_lag(tone, 60, 360, 120)[0] == 240
    assert find_lag(tone, 60, 200, 120)[0] <= 200
    assert find_lag(tone[:130], 60, 360, 120) == (0, 0.0)
    assert find_lag(tone[:0], 60, 360, 120) == (0, 0.0)
    noise = np.random.default_rng(0).standard_normal(2_000).astype(np.float32)
    assert find_lag(noise, 60, 360, 120)[1] < 0.6
    assert find_lag(np.zeros(2_000, np.float32), 60, 360, 120)[1] == 0
