"""Means and their confidence intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from earshot.lab.confidence import Mean, weighted_mean


def test_the_interval_is_students() -> None:
    values = [0.3, 0.5, 0.45, 0.9, 0.62]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    found = weighted_mean(values)
    assert found.half_width is not None
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert found.count == 5
    assert weighted_mean([0.3]) == Mean(0.3, None, 1)
    assert weighted_mean([0.3, 0.3]) == Mean(0.3, 0.0, 2)


def test_word_errors_are_weighed_by_words() -> None:
    assert weighted_mean([50.0, 0.0], [2, 18]).mean == pytest.approx(5.0)
    equal = weighted_mean([10.0, 20.0, 40.0], [7, 7, 7])
    plain = weighted_mean([10.0, 20.0, 40.0])
    assert (equal.mean, equal.half_width) == pytest.approx((plain.mean, plain.half_width))


def test_the_interval_covers_the_truth_nineteen_times_in_twenty() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(2_000):
        words = random.integers(5, 25, 40)
        wrong = random.binomial(words, 0.3)
        found = weighted_mean(100 * wrong / words, words)
        assert found.half_width is not None
        covered += abs(found.mean - 30) <= found.half_width
    assert 0.92 < covered / 2_000 < 0.975
