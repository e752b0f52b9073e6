"""Screening and means, against figures worked out by hand."""

from __future__ import annotations

import pytest

from earshot.lab.listening.plan import ANCHOR, REFERENCE
from earshot.lab.listening.scores import Rating, mean, result, screen


def trials(rater: str, *scores: tuple[int, int, int]) -> list[Rating]:
    """Returns the ratings of one system: (system, anchor, reference) for each clip."""
    return [
        Rating(rater, f"clip{number}", system, score, 1.0, "")
        for number, triple in enumerate(scores)
        for system, score in zip(("new", ANCHOR, REFERENCE), triple, strict=True)
    ]


@pytest.mark.parametrize(("low", "out"), [(0, False), (1, False), (2, True), (10, True)])
def test_the_reference_under_90_in_a_fifth_of_the_trials_is_too_often(low: int, out: bool) -> None:
    scores = [(50, 20, 89)] * low + [(50, 20, 90)] * (10 - low)
    assert bool(screen(trials("ada", *scores))) is out


@pytest.mark.parametrize(("high", "out"), [(0, False), (5, False), (6, True)])
def test_the_anchor_over_80_in_more_than_half_of_the_trials_is_too_often(high: int, out: bool) -> None:
    scores = [(50, 81, 100)] * high + [(50, 80, 100)] * (10 - high)
    assert bool(screen(trials("ada", *scores))) is out


def test_it_is_said_why_and_others_are_not_touched() -> None:
    ratings = trials("ada", (60, 20, 100)) + trials("ben", (60, 90, 50), (60, 90, 95)) + trials("cy", (9, 9, 9))
    assert screen(ratings) == {
        "ben": "reference under 90 in 1 of 2, anchor over 80 in 2 of 2",
        "cy": "reference under 90 in 1 of 1",
    }


def test_mean_and_interval() -> None:
    """60, 70, 80: deviation 10, Student's t for two degrees of freedom 4.3027; 10 / sqrt(3) *
    4.3027 = 24.841."""
    found = mean("new", [60, 70, 80])
    assert found.mean == 70
    assert found.half_width == pytest.approx(24.841, abs=0.001)
    assert mean("new", [60, 60]).half_width == 0


def test_one_rating_has_no_interval() -> None:
    assert mean("new", [60]).half_width is None


def test_means_are_of_the_raters_who_were_kept() -> None:
    found = result(trials("ada", (60, 20, 100), (70, 10, 90)) + trials("ben", (80, 30, 100)) + trials("cy", (0, 0, 0)))
    assert found.kept == ("ada", "ben")
    assert set(found.thrown_out) == {"cy"}
    assert found.trials == 2
    assert [each.system for each in found.means] == [REFERENCE, "new", ANCHOR]
    assert [each.mean for each in found.means] == [pytest.approx(290 / 3), 70, 20]


def test_nobody_left() -> None:
    found = result(trials("cy", (0, 0, 0)))
    assert found.kept == ()
    assert found.means == ()
