"""The picture of a load test: how late a server sends coded frames, by the number of speakers."""

from __future__ import annotations

from pathlib import Path

from earshot.lab.loadtest.plan import Findings
from earshot.lab.pictures import BLUE, SIZE, SKY, gridded, new_figure, save, title

RED = "#b00020"
TYPICAL, WORST = SKY, BLUE
MOST_FRAMES = 2.5
"""Times of more frames than this are drawn at the edge, with their value beside an arrow: one step
too many can be seconds late."""


def draw(findings: Findings, file: Path) -> None:
    """Draws median and p99 of what the server adds, against the number of speakers, and one frame
    as a line."""
    figure = new_figure(8.0, 4.6)
    axes = figure.subplots()
    top = MOST_FRAMES * findings.frame_ms
    counts = [row.speakers for row in findings.rows]
    for name, label, colour, marker in (("added_p50", "median", TYPICAL, "o"), ("added_p99", "p99", WORST, "s")):
        values = [getattr(row, name) for row in findings.rows]
        times = [top if value is None else min(value, top) for value in values]
        for count, value in zip(counts, values, strict=True):
            if value is None or value > top:
                axes.annotate(
                    "none heard" if value is None else f"{value:.1f} \N{UPWARDS ARROW}", (count, top), (-9, -4),
                    textcoords="offset points", ha="right", va="center", color=colour, fontsize=SIZE - 1,
                )  # fmt: skip
        axes.plot(counts, times, color=colour, marker=marker, markersize=7, linewidth=2, label=label, clip_on=False)
    axes.axhline(findings.frame_ms, color=RED, linestyle="--", linewidth=1.5)
    axes.annotate(
        f"one frame, {findings.frame_ms:.1f} ms", (0, findings.frame_ms), (6, 5), xycoords=("axes fraction", "data"),
        textcoords="offset points", color=RED, fontsize=SIZE - 1,
    )  # fmt: skip
    right = max(counts) * 1.06
    refused = findings.refused_above
    if refused is not None:
        right = max(right, refused * 1.12)
        axes.axvspan(refused, right, color=RED, alpha=0.1, linewidth=0)
        axes.annotate(
            f"refused above {refused} (4013)", (refused, 1), (-6, -6), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="right", va="top", color=RED, fontsize=SIZE - 1,
        )  # fmt: skip
    axes.set_xlim(0, right)
    axes.set_ylim(0, max(1.25 * findings.frame_ms, min(top, axes.get_ylim()[1])))
    axes.set_xlabel("live PCM speakers", fontsize=SIZE)
    axes.set_ylabel("added by the server, ms", fontsize=SIZE)
    held = f"{findings.held} speakers at {findings.kbps:g} kbps in time"
    title(axes, f"{held}, {findings.cores} cores, model {findings.model}")
    gridded(axes)
    axes.legend(loc="upper left", frameon=False, fontsize=SIZE)
    save(figure, file)
