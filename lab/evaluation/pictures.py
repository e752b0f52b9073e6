"""The rate-quality picture: one chart for each measure, one curve for each family of systems."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes

from earshot.lab.evaluation.measures import Measure
from earshot.lab.evaluation.results import ORIGINAL, Evaluation
from earshot.lab.pictures import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SIZE,
    SKY,
    VERMILION,
    above_all,
    gridded,
    legend_below,
    new_figure,
    save,
    ticks_at,
    title,
)

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
COLUMNS = 3
PANEL_INCHES = (4.6, 3.5)
ASIDE = 1.015
"""Each family stands so much to the right of the one before, so that their bars at one rate can be
told apart."""
BETTER = {"higher": "higher is better", "lower": "lower is better", "zero": "0 is best"}


def rate_quality(evaluation: Evaluation, file: Path) -> None:
    """Draws means over clips against codec rate, with 95 % confidence intervals as bars and
    bands."""
    measures = evaluation.shown()
    columns = min(COLUMNS, max(1, len(measures)))
    rows = max(1, -(-len(measures) // columns))
    width, height = PANEL_INCHES
    figure = new_figure(width * columns, height * rows + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, measure in zip(grid, measures, strict=False):
        _panel(axes, evaluation, measure)
    for axes in grid[len(measures) :]:
        axes.set_visible(False)
    clips = len(evaluation.clips)
    about = f"means of {clips} clips, 95 % confidence intervals" if clips > 1 else "one clip"
    above_all(figure, f"Quality by rate: {about}")
    legend_below(figure, grid[: len(measures)])
    save(figure, file)


def _panel(axes: Axes, evaluation: Evaluation, measure: Measure) -> None:
    systems = [system for system in evaluation.systems if system.kbps is not None]
    for index, family in enumerate(dict.fromkeys(system.family for system in systems)):
        points = sorted(
            (system.kbps, mean)
            for system in systems
            if system.family == family
            and system.kbps is not None
            and (mean := evaluation.summary(system.name, measure.key))
        )
        if not points:
            continue
        rates, means = [kbps * ASIDE**index for kbps, _ in points], [mean.mean for _, mean in points]
        halves = [mean.half_width or 0.0 for _, mean in points]
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        low = [mean - half for mean, half in zip(means, halves, strict=True)]
        high = [mean + half for mean, half in zip(means, halves, strict=True)]
        axes.fill_between(rates, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.errorbar(rates, means, halves, color=colour, marker=marker, markersize=7, linewidth=2, capsize=4,
                      elinewidth=1.2, label=family)  # fmt: skip
    if original := evaluation.summary(ORIGINAL, measure.key):
        axes.axhline(original.mean, color=INK, linestyle="--", linewidth=1.2, label=ORIGINAL)
    if measure.better == "zero":
        axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xscale("log")
    ticks_at(axes, sorted({system.kbps for system in systems if system.kbps is not None}))
    axes.set_xlabel("kbps", fontsize=SIZE)
    axes.set_ylabel(measure.unit, fontsize=SIZE)
    _keep_within(axes, *measure.limits)
    counted = max((mean.count for s in systems if (mean := evaluation.summary(s.name, measure.key))), default=0)
    few = f", {counted} clip{'s' * (counted != 1)}" if counted != len(evaluation.clips) else ""
    axes.set_title(BETTER[measure.better] + few, fontsize=SIZE - 1, color=INK, loc="right")
    title(axes, measure.label)
    gridded(axes)


def _keep_within(axes: Axes, least: float | None, most: float | None) -> None:
    """Cuts the axis to the values that can be, however wide the interval of a few clips is."""
    low, high = axes.get_ylim()
    margin = 0.03 * (high - low)
    axes.set_ylim(
        low if least is None else max(low, least - min(margin, 0.02 * abs((most or high) - least))),
        high if most is None else min(high, most + 0.02 * abs(most - (least or low))),
    )
