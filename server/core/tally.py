"""Counts of values by size, cheap enough for every frame."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate


class Tally:
    """A histogram: how many values were at most so large."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are the upper ends of its classes, in order; one more has all that is above."""
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Counts a value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulated(self) -> list[int]:
        """Returns, for each bound, how many values were at most that; and then how many there
        were."""
        return list(accumulate(self._counts))
