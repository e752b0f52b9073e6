"""The table and the picture of what calls over bad networks are like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from earshot.lab.netlab.figures import Figures
from earshot.lab.netlab.profiles import PROFILES
from earshot.lab.pictures import BLUE, GREY, INK, ORANGE, SIZE, gridded, legend_below, new_figure, save, title

HEAD = (
    "| network | system | p50 | p95 | p99 ms | underruns/min | concealed | STOI | PESQ | PLCMOS | kbps up | down |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)
COLOURS = {"earshot": BLUE, "aiortc": ORANGE}


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def table(rows: Sequence[Figures]) -> str:
    """Returns the rows as a table in Markdown, in the order of the profiles."""
    labels = {profile.key: profile.label for profile in PROFILES}
    order = list(labels)
    lines = [HEAD]
    for row in sorted(rows, key=lambda row: (order.index(row.profile), row.system != "earshot")):
        cells = [labels[row.profile], row.system]
        cells += [_number(value) for value in (row.delay_p50_ms, row.delay_p95_ms, row.delay_p99_ms)]
        cells += [_number(row.underruns_a_minute, 1), f"{row.concealed:.1%}"]
        cells += [_number(value, 2) for value in (row.stoi, row.pesq, row.plcmos)]
        cells += [_number(row.up_kbps, 1), _number(row.down_kbps, 1)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Figures], file: Path) -> None:
    """Draws the delays of both systems: the bar is the median, the line goes up to the 99th
    percentile with a mark at the 95th."""
    profiles = [profile for profile in PROFILES if any(row.profile == profile.key for row in rows)]
    figure = new_figure(11, 5.5)
    axes = figure.subplots()
    for offset, system in ((-0.2, "earshot"), (0.2, "aiortc")):
        drawn = False
        for place, profile in enumerate(profiles):
            row = next((each for each in rows if each.system == system and each.profile == profile.key), None)
            if row is None or row.delay_p50_ms is None or row.delay_p95_ms is None or row.delay_p99_ms is None:
                continue
            label = None if drawn else system
            axes.bar(place + offset, row.delay_p50_ms, 0.36, color=COLOURS[system], label=label)
            axes.plot([place + offset] * 2, [row.delay_p50_ms, row.delay_p99_ms], color=INK, linewidth=1)
            axes.plot(place + offset, row.delay_p95_ms, "_", color=INK, markersize=10)
            drawn = True
    for place, profile in enumerate(profiles):
        label = "the path itself" if place == 0 else None
        axes.plot([place - 0.42, place + 0.42], [profile.path_ms] * 2, color=GREY, linestyle="--", label=label)
    axes.set_xticks(range(len(profiles)), [profile.label.replace(", ", ",\n") for profile in profiles])
    axes.set_ylabel("mouth to ear, ms", fontsize=SIZE)
    title(axes, "Delay over bad networks: median, and lines to the 95th and 99th percentile")
    gridded(axes)
    axes.tick_params(axis="x", labelsize=SIZE - 4)
    legend_below(figure, [axes])
    save(figure, file)
