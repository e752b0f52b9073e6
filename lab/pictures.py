"""What all pictures of the lab share: colours, sizes, the look of their axes, and their files.

Each chart is drawn by a function of its own, beside what it shows. Figures are made without pyplot,
so that they need no display and keep no state between two of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
"""Okabe and Ito's palette (jfly.uni-koeln.de/color), whose colours stay apart for the
colour-blind."""
INK, GREY, FAINT = "#222222", "#777777", "#dddddd"
"""Colours of words and axes, of what matters less, and of grid lines."""
SIZE = 12
"""Size of a label in points."""
DPI = 100


def new_figure(width: float, height: float, dpi: int = DPI) -> Figure:
    """Returns an empty figure of so many inches, whose parts make way for each other."""
    return Figure(figsize=(width, height), dpi=dpi, layout="constrained")


def save(figure: Figure, file: Path) -> None:
    """Writes a PNG that is as small as it can be."""
    figure.savefig(file, pil_kwargs={"optimize": True})


def title(axes: Axes, text: str, size: int = SIZE + 1) -> None:
    """Writes the title of a chart, in bold above its left corner."""
    axes.set_title(text, fontsize=size, fontweight="bold", color=INK, loc="left")


def open_frame(axes: Axes) -> None:
    """Removes the upper and the right side of the frame."""
    axes.spines[["top", "right"]].set_visible(False)


def gridded(axes: Axes) -> None:
    """Gives axes the usual look: an open frame, with a faint grid behind what is drawn."""
    axes.tick_params(labelsize=SIZE - 1)
    axes.grid(color=FAINT)
    axes.set_axisbelow(True)
    open_frame(axes)


def ticks_at(axes: Axes, values: Sequence[float]) -> None:
    """Marks these values of a logarithmic horizontal axis, and no others."""
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(values, [f"{value:g}" for value in values])


def legend_below(figure: Figure, charts: Iterable[Axes], columns: int | None = None, size: int = SIZE) -> None:
    """Draws one legend below all charts, with each label once; nothing if there are no labels.

    `columns` is as many as there are labels if not given."""
    entries: dict[str, Artist] = {}
    for axes in charts:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    if entries:
        figure.legend(
            list(entries.values()), list(entries), loc="outside lower center", ncols=columns or len(entries),
            frameon=False, fontsize=size,
        )  # fmt: skip


def above_all(figure: Figure, text: str, size: int = SIZE + 2) -> None:
    """Writes the title of a whole figure."""
    figure.suptitle(text, fontsize=size, fontweight="bold", color=INK)
