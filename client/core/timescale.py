"""Plays a little faster or slower without changing the pitch: one period is cut out or repeated at
a time.

This is waveform-similarity overlap-add (Verhelst and Roelands, ICASSP 1993) in the form that
WebRTC's NetEq uses for play-out. The fades are linear, so that the positions in time of the
samples, faded by the same weights, keep ascending."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from earshot.codec.pcm import Pcm

SHORTEST_LAG_S = 0.0025
LONGEST_LAG_S = 0.015
"""Periods of 400 Hz and of 67 Hz. The fundamental of speech lies between them."""
TEMPLATE_S = 0.005
"""How much of the sound is compared to find its period."""
_TINY = 1e-9

Sample = TypeVar("Sample", np.float32, np.float64)


def find_lag(pcm: Pcm, shortest: int, longest: int, template: int) -> tuple[int, float]:
    """Returns the lag in shortest..longest at which `pcm` repeats its first `template` samples
    best, and how well it does: the normalised correlation, -1..1.

    Lags for which `pcm` is too short (2 * lag, lag + template) are left out. Returns (0, 0.0) if
    none remains."""
    longest = min(longest, pcm.size // 2, pcm.size - template)
    if longest < shortest:
        return 0, 0.0
    x = pcm[: longest + template].astype(np.float64)
    head = x[:template]
    products = np.correlate(x[shortest:], head, "valid")  # [lags]
    sums = np.concatenate([[0.0], np.cumsum(np.square(x))])
    lags = np.arange(shortest, longest + 1)
    energies = sums[lags + template] - sums[lags]
    similarity = products / (np.sqrt(energies * sums[template]) + _TINY)
    best = int(np.argmax(similarity))
    return int(lags[best]), float(similarity[best])


def shorten(x: NDArray[Sample], lag: int) -> NDArray[Sample]:
    """Takes one period out of [n] samples, n >= 2 * lag, and returns [n - lag]: the first `lag`
    samples fade into the next."""
    rise = np.arange(lag) / lag
    faded = x[:lag] * (1 - rise) + x[lag : 2 * lag] * rise
    return np.concatenate([faded.astype(x.dtype), x[2 * lag :]])


def lengthen(x: NDArray[Sample], lag: int) -> NDArray[Sample]:
    """Plays one period of [n] samples, n >= 2 * lag, twice and returns [n + lag]: the second `lag`
    samples fade back into the first."""
    rise = np.arange(lag) / lag
    faded = x[lag : 2 * lag] * (1 - rise) + x[:lag] * rise
    return np.concatenate([x[:lag], faded.astype(x.dtype), x[lag:]])
