"""Means of a few values, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """The mean of at least one value; it lies within plus and minus `half_width` with 95 %
    confidence."""

    mean: float
    half_width: float | None
    """Half the confidence interval; None for a single value."""
    count: int
    """Values that the mean was taken of."""


def weighted_mean(values: Sequence[float], weights: Sequence[float] | None = None) -> Mean:
    """Returns the mean of at least one value with Student's confidence interval.

    With weights it is the interval of a ratio of sums, linearised (Cochran, Sampling Techniques,
    6.4)."""
    x = np.asarray(values, np.float64)
    w = np.ones(x.size) if weights is None else np.asarray(weights, np.float64)
    mean = float(w @ x / w.sum())
    if x.size < 2:
        return Mean(mean, None, x.size)
    spread = w * (x - mean)
    error = np.sqrt(x.size / (x.size - 1) * float(spread @ spread)) / w.sum()
    return Mean(mean, float(stdtrit(x.size - 1, (1 + CONFIDENCE) / 2) * error), x.size)
