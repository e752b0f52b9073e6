"""The result of a listening test as a table for the terminal and as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.table import Table

from earshot.lab.listening.plan import ANCHOR, REFERENCE
from earshot.lab.listening.scores import HIGHEST, LOWEST, Result
from earshot.lab.pictures import BLUE, INK, SIZE, above_all, new_figure, save

GRADES = ("Bad", "Poor", "Fair", "Good", "Excellent")
"""Fifths of the scale."""
FAINT, BAND, HIDDEN = "#666666", "#f2f4f7", "#888888"
SHOWN = {REFERENCE: "hidden reference", ANCHOR: "anchor, 3.5 kHz"}


def headline(found: Result) -> str:
    """Says how many raters and trials stand behind the means."""
    kept, out = len(found.kept), len(found.thrown_out)
    return f"{kept} {_plural('rater', kept)} kept, {out} thrown out, {found.trials} {_plural('clip', found.trials)}"


def table(found: Result) -> Table:
    """Returns a row for each system, best first."""
    title = f"MUSHRA: {headline(found)}"
    shown = Table("system", title=title, min_width=len(title))
    for name in ("mean", "95 %", "ratings"):
        shown.add_column(name, justify="right")
    for each in found.means:
        width = "-" if each.half_width is None else f"± {each.half_width:.1f}"
        shown.add_row(SHOWN.get(each.system, each.system), f"{each.mean:.1f}", width, str(len(each.scores)))
    return shown


def draw(found: Result, path: Path) -> None:
    """Writes a PNG: the mean of each system with its 95 % interval over all ratings that were
    kept."""
    rows = max(1, len(found.means))
    figure = new_figure(9.6, 1.9 + 0.62 * rows, dpi=120)
    axes = figure.subplots()
    fifth = (HIGHEST - LOWEST) / len(GRADES)
    for number, grade in enumerate(GRADES):
        left = LOWEST + number * fifth
        axes.axvspan(left, left + fifth, color=BAND if number % 2 == 0 else "white", zorder=0, linewidth=0)
        axes.text(left + fifth / 2, 1.01, grade, transform=axes.get_xaxis_transform(), ha="center", color=FAINT)
    for row, each in enumerate(found.means):
        colour = HIDDEN if each.system in SHOWN else BLUE
        # Equal scores lie beside each other, in the order that they were given.
        spread = row + 0.24 * np.linspace(-1, 1, len(each.scores)) if len(each.scores) > 1 else [row]
        axes.scatter(each.scores, spread, s=14, color=colour, alpha=0.3, linewidth=0, zorder=2)
        axes.errorbar(
            each.mean, row, xerr=each.half_width or 0, fmt="o", markersize=8, color=colour, elinewidth=2.4, capsize=5,
            markeredgecolor="white", markeredgewidth=1.2, zorder=3,
        )  # fmt: skip
        width = "" if each.half_width is None else f" ± {each.half_width:.1f}"
        axes.text(1.015, row, f"{each.mean:.1f}{width}", transform=axes.get_yaxis_transform(), va="center", color=INK)
    if not found.means:
        axes.text(0.5, 0.5, "no ratings are left", transform=axes.transAxes, ha="center", color=FAINT)
    axes.set_yticks(range(len(found.means)), [SHOWN.get(each.system, each.system) for each in found.means])
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xlim(LOWEST - 1, HIGHEST + 1)
    axes.set_xlabel("MUSHRA score: mean and 95 % interval; faint: each rating", color=INK)
    axes.tick_params(colors=INK, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    above_all(figure, f"Listening test: {headline(found)}", SIZE + 1)
    save(figure, path)


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"
