"""What all pictures share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import image

from earshot.lab.pictures import DPI, gridded, legend_below, new_figure, save, ticks_at


def test_a_figure_has_the_pixels_that_were_asked_for(tmp_path: Path) -> None:
    save(new_figure(3.0, 2.0), tmp_path / "a.png")
    save(new_figure(3.0, 2.0, dpi=50), tmp_path / "b.png")
    assert image.imread(tmp_path / "a.png").shape[:2] == (2 * DPI, 3 * DPI)
    assert image.imread(tmp_path / "b.png").shape[:2] == (100, 150)


def test_a_label_of_several_charts_is_in_the_legend_once() -> None:
    figure = new_figure(6.0, 3.0)
    charts = figure.subplots(1, 2)
    for axes, labels in zip(charts, (("a", "b"), ("b", "c")), strict=True):
        for label in labels:
            axes.plot([1, 2], label=label)
    legend_below(figure, charts)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "c"]


def test_charts_without_labels_get_no_legend() -> None:
    figure = new_figure(6.0, 3.0)
    legend_below(figure, [figure.subplots()])
    assert not figure.legends


def test_only_these_values_are_marked() -> None:
    axes = new_figure(3.0, 2.0).subplots()
    axes.plot([1.5, 48], [0, 1])
    axes.set_xscale("log")
    ticks_at(axes, [1.5, 6, 24])
    assert np.array_equal(axes.get_xticks(), [1.5, 6, 24])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1.5", "6", "24"]
    assert not axes.get_xticks(minor=True).size


def test_the_frame_is_open_above_and_to_the_right() -> None:
    axes = new_figure(3.0, 2.0).subplots()
    gridded(axes)
    assert {side for side in axes.spines if axes.spines[side].get_visible()} == {"left", "bottom"}
