"""Mel filterbanks: triangles that add the bins of a spectrum up as the ear does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def mel_edges(bands: int, low_hz: float, high_hz: float) -> Array:
    """Returns the [bands + 2] corners of the triangles in Hz.

    They are evenly spaced on O'Shaughnessy's mel scale, 2595 log10(1 + f / 700)."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (low_hz, high_hz))
    return np.asarray(700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1), np.float64)


def mel_filters(fft: int, bands: int, sample_rate: int, low_hz: float = 0.0, high_hz: float | None = None) -> Array:
    """Returns [bands, fft / 2 + 1] triangles whose peaks are 1.

    `high_hz` is half the sample rate if not given. The lowest triangles of a short FFT may lie
    between two bins and weigh nothing."""
    edges = mel_edges(bands, low_hz, sample_rate / 2 if high_hz is None else high_hz)
    bins = np.fft.rfftfreq(fft, 1 / sample_rate)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0.0, np.minimum(rising, falling))


def averaging_mel_filters(
    fft: int, bands: int, sample_rate: int, low_hz: float = 0.0, high_hz: float | None = None
) -> Array:
    """Returns [bands, fft / 2 + 1] triangles whose weights sum to 1 each.

    A triangle that would lie between two bins takes the nearer one."""
    filters = mel_filters(fft, bands, sample_rate, low_hz, high_hz)
    centres = mel_edges(bands, low_hz, sample_rate / 2 if high_hz is None else high_hz)[1:-1]
    empty = filters.sum(axis=1) == 0
    bins = np.fft.rfftfreq(fft, 1 / sample_rate)
    filters[empty, np.abs(bins - centres[empty, None]).argmin(axis=1)] = 1.0
    return np.asarray(filters / filters.sum(axis=1, keepdims=True), np.float64)
