"""Playing a little faster or slower without changing the pitch: one period is cut out or repeated
at a time.

Waveform-similarity overlap-add (Verhelst and Roelands, ICASSP 1993) in the form that WebRTC's NetEq
uses for play-out. The fades are linear, so that the position in time of every sample, faded by the
same weights, stays monotone."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from earshot.codec.pcm import Pcm
from numpy.typing import NDArray

SHORTEST_LAG_S = 0.0025
LONGEST_LAG_S = 0.015
"""Periods of 400 Hz and 67 Hz: the fundamental of speech lies between."""
TEMPLATE_S = 0.005
_TINY = 1e-9

Sample = TypeVar("Sample", np.float32, np.float64)


def find_lag(pcm: Pcm, shortest: int, longest: int, template: int) -> tuple[int, float]:
    """The lag in shortest..longest at which `pcm` repeats its first `template` samples best, and
    how well: the normalised correlation, -1..1. Lags for which `pcm` is too short (2 * lag, lag +
    template) are left out; (0, 0.0) if none remains."""
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
    """[n] -> [n - lag]: fades the first `lag` samples into the next, which takes one period out.
    Needs n >= 2 * lag."""
    rise = np.arange(lag) / lag
    faded = x[:lag] * (1 - rise) + x[lag : 2 * lag] * rise
    return np.concatenate([faded.astype(x.dtype), x[2 * lag :]])


def lengthen(x: NDArray[Sample], lag: int) -> NDArray[Sample]:
    """[n] -> [n + lag]: fades from the second `lag` samples back into the first, which plays one
    period twice. Needs n >= 2 * lag."""
    rise = np.arange(lag) / lag
    faded = x[lag : 2 * lag] * (1 - rise) + x[:lag] * rise
    return np.concatenate([x[:lag], faded.astype(x.dtype), x[lag:]])
