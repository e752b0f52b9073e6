"""What is said of a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from earshot.lab.listening.plan import ANCHOR, REFERENCE
from earshot.lab.listening.report import draw, headline, table
from earshot.lab.listening.scores import Rating, Result, result

SCORES = {"new": (60, 70, 80), "old": (30, 31, 32), ANCHOR: (10, 20, 30), REFERENCE: (100, 100, 100)}


@pytest.fixture
def found() -> Result:
    kept = [
        Rating(rater, "clip", system, scores[place], 1, "")
        for system, scores in SCORES.items()
        for place, rater in enumerate(("ada", "ben", "cy"))
    ]
    return result([*kept, Rating("dan", "clip", REFERENCE, 0, 1, ""), Rating("dan", "clip", "old", 100, 1, "")])


def shown(found: Result) -> str:
    console = Console(width=100, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(table(found))
    return console.export_text()


def test_the_table_has_means_and_intervals_best_first(found: Result) -> None:
    text = shown(found)
    assert "3 raters kept, 1 thrown out, 1 clip" in text
    rows = [line.split("│")[1:-1] for line in text.splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["hidden reference", "100.0", "± 0.0", "3"],
        ["new", "70.0", "± 24.8", "3"],
        ["old", "31.0", "± 2.5", "3"],
        ["anchor, 3.5 kHz", "20.0", "± 24.8", "3"],
    ]


def test_the_picture_has_a_mark_at_each_mean(found: Result, tmp_path: Path) -> None:
    draw(found, tmp_path / "scores.png")
    picture = imread(tmp_path / "scores.png")
    assert picture.shape[1] > 1000
    blue = np.abs(picture[:, :, :3] - np.array([0, 0x72, 0xB2]) / 255).max(axis=2) < 0.02
    assert blue.sum() > 200  # the marks of the two systems


@pytest.mark.parametrize("scores", [(), (0,)])
def test_results_of_nobody_and_of_one_rating(scores: tuple[int, ...], tmp_path: Path) -> None:
    ratings = [Rating("ada", "clip", "new", score, 1, "") for score in scores]
    few = result([*ratings, Rating("ada", "clip", REFERENCE, 100, 1, "")] if scores else [])
    draw(few, tmp_path / "scores.png")
    assert (tmp_path / "scores.png").stat().st_size > 1000
    assert ("│ new" in shown(few)) == bool(scores)
    assert headline(few).startswith(f"{len(scores)} rater")
