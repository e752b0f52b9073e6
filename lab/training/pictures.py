"""The picture of a run: each loss over the steps, from its log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

LOSSES = ("waveform", "mel", "adversarial", "features", "critic", "commitment")


def draw_losses(log: Path, picture: Path, losses: Sequence[str] = LOSSES) -> None:
    """Draws what `log` holds of `losses` so far; nothing if it holds nothing yet."""
    rows = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue  # the last line of a run that was killed
    names = [name for name in losses if any(row.get(name) for row in rows)]
    if not names:
        return
    from earshot.lab.pictures import new_figure, save

    figure = new_figure(3.4 * min(3, len(names)), 2.6 * -(-len(names) // 3), dpi=110)
    for index, name in enumerate(names):
        axes = figure.add_subplot(-(-len(names) // 3), min(3, len(names)), index + 1)
        points = [(row["step"], row[name]) for row in rows if name in row]
        axes.plot(*zip(*points, strict=True), linewidth=1.2)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    figure.supxlabel("step", fontsize=8)
    save(figure, picture)
