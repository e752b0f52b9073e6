"""The rate-quality picture, as far as a machine can look at it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from earshot.lab.evaluation.measures import BY_KEY
from earshot.lab.evaluation.pictures import COLOURS, PANEL_INCHES, rate_quality
from earshot.lab.evaluation.results import Evaluation, Score, SystemInfo
from earshot.lab.pictures import DPI
from tests.lab.evaluation.test_results import evaluation


def two_rates() -> Evaluation:
    base = evaluation()
    more = [Score(clip, "earshot-12kbps", {"stoi": stoi}) for clip, stoi in (("a", 0.85), ("b", 0.75))]
    return replace(
        base, systems=[*base.systems, SystemInfo("earshot-12kbps", "earshot", 12.0)], scores=[*base.scores, *more]
    )


def has_colour(picture: np.ndarray, colour: str) -> bool:
    return bool((np.abs(picture[..., :3] - np.array(to_rgb(colour))).max(axis=2) < 0.02).any())


def test_a_panel_for_each_measure_in_the_colours_of_the_families(tmp_path: Path) -> None:
    rate_quality(evaluation(), tmp_path / "x.png")
    picture = image.imread(tmp_path / "x.png")
    assert picture.shape[1] == round(3 * PANEL_INCHES[0] * DPI)
    assert has_colour(picture, COLOURS[0])
    assert has_colour(picture, COLOURS[1])
    assert not has_colour(picture, COLOURS[2])


def test_curves_go_through_the_means(tmp_path: Path, drawn: list[Figure]) -> None:
    rate_quality(two_rates(), tmp_path / "x.png")
    (figure,) = drawn
    stoi, _, wer = figure.axes[:3]
    ours = stoi.containers[0]
    assert ours.get_label() == "earshot"
    assert ours.lines[0].get_xdata() == pytest.approx([6, 12])  # type: ignore[attr-defined]
    assert ours.lines[0].get_ydata() == pytest.approx([0.7, 0.8])  # type: ignore[attr-defined]
    assert [label.get_text() for label in stoi.get_xticklabels()] == ["6", "12"]
    assert [line for line in wer.lines if list(np.ravel(line.get_ydata())) == [25.0, 25.0]], "the original's own errors"
    assert wer.get_title("right") == "lower is better, 1 clip"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["earshot", "opus", "original"]


def test_wide_intervals_leave_no_room_for_what_cannot_be(tmp_path: Path, drawn: list[Figure]) -> None:
    rate_quality(two_rates(), tmp_path / "x.png")
    low, high = drawn[0].axes[0].get_ylim()
    assert -0.05 < low < high < 1.05
    low, high = drawn[0].axes[1].get_ylim()
    assert low < 6 - 12 < 6 + 12 < high


def test_nothing_to_show_is_still_a_picture(tmp_path: Path) -> None:
    base = evaluation()
    rate_quality(replace(base, scores=[], measures=[BY_KEY["stoi"]]), tmp_path / "x.png")
    assert image.imread(tmp_path / "x.png").shape[2] == 4
