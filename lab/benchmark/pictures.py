"""The picture: streams a core against streams in a step, a line for each engine, the floor above
them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from earshot.lab.benchmark.candidates import NAIVE
from earshot.lab.benchmark.floor import Direction
from earshot.lab.benchmark.peers import ENCODEC
from earshot.lab.benchmark.results import Results, Row
from earshot.lab.benchmark.runtimes import ONNXRUNTIME, OPENVINO
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

INK, FAINT, GREY = "#222222", "#dddddd", "#777777"
COLOURS = {
    "native": "#0072B2", "cuda": "#56B4E9", "torch": "#CC79A7", NAIVE: "#E69F00", ONNXRUNTIME: "#D55E00",
    OPENVINO: "#009E73",
}  # fmt: skip
"""Okabe and Ito's palette (jfly.uni-koeln.de/color), whose colours stay apart for the
colour-blind."""
NAMES = {
    "native": "Earshot native", "cuda": "Earshot CUDA", "torch": "Earshot torch", NAIVE: "torch layer by layer",
    ONNXRUNTIME: "ONNX Runtime", OPENVINO: "OpenVINO",
}  # fmt: skip
DASHES = {"fp32": "-", "bf16": "--", "fp16": "-.", "int8": ":"}
MARKERS = {"fp32": "o", "bf16": "s", "fp16": "D", "int8": "^"}
TITLES: dict[Direction, str] = {"encode": "Encoding", "decode": "Decoding"}
DPI, SIZE, INCHES = 90, 12, (12.0, 7.2)


def streams_by_batch(results: Results, file: Path) -> None:
    """Encoding and decoding side by side. The `encodec` package, which takes whole signals, is a
    level line; Opus and what is paced are not drawn."""
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    rows = [row for row in results.rows if row.key.engine == ENCODEC or (row.key.batch and not row.key.paced)]
    grid = figure.subplots(1, len(TITLES), sharey=True)
    entries: dict[str, Any] = {}
    for axes, direction in zip(grid, TITLES, strict=True):
        _panel(axes, [row for row in rows if row.key.direction == direction], direction)
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    grid[0].set_ylim(bottom=0)  # not before all is drawn: it ends the search for the top
    grid[0].set_ylabel("streams a core, in real time", fontsize=SIZE)
    figure.suptitle(
        f"Live EnCodec streams a core carries: model {results.model}, {results.n_q} codebooks, frames of 13.3 ms",
        fontsize=SIZE + 2, fontweight="bold", color=INK,
    )  # fmt: skip
    if entries:
        figure.legend(
            list(entries.values()), list(entries), loc="outside lower center", ncols=4, frameon=False, fontsize=SIZE - 1
        )
    figure.savefig(file, pil_kwargs={"optimize": True})


def _panel(axes: Axes, rows: Sequence[Row], direction: Direction) -> None:
    stepping = [row for row in rows if row.key.batch]
    native = [row for row in stepping if row.key.engine == "native"]
    several = len({row.key.kernels for row in native}) > 1
    for precision in dict.fromkeys(row.key.precision for row in native):
        least = {row.key.batch: row.floor_ms_per_audio_s for row in native if row.key.precision == precision}
        floor = sorted((batch, 1000 / ms) for batch, ms in least.items() if batch and ms)
        if floor:
            axes.plot(*zip(*floor, strict=True), color=INK, linestyle=DASHES[precision], linewidth=1,
                      label=f"the most this core can do, {precision}")  # fmt: skip
    for line in dict.fromkeys((row.key.engine, row.key.kernels, row.key.precision) for row in stepping):
        engine, way, precision = line
        own = [row for row in stepping if (row.key.engine, row.key.kernels, row.key.precision) == line]
        points = sorted((row.key.batch or 1, row.streams_per_core) for row in own)
        name = NAMES.get(engine, engine) + (f" {way}" if several and engine == "native" else "")
        axes.plot(*zip(*points, strict=True), color=COLOURS.get(engine, GREY), marker=MARKERS[precision], markersize=6,
                  linewidth=3 if engine == "native" else 1.7, linestyle=DASHES[precision],
                  label=f"{name}, {precision}", zorder=3 if engine == "native" else 2)  # fmt: skip
    for row in rows:
        if row.key.engine == ENCODEC:
            axes.axhline(row.streams_per_core, color=GREY, linewidth=1.7, linestyle=(0, (1, 1)),
                         label="encodec package, whole signals")  # fmt: skip
    batches = sorted({row.key.batch for row in stepping if row.key.batch})
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(batches))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_xlabel("streams stepped together", fontsize=SIZE)
    axes.set_title(TITLES[direction], fontsize=SIZE + 1, fontweight="bold", color=INK, loc="left")
    axes.tick_params(labelsize=SIZE - 1)
    axes.grid(color=FAINT)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
