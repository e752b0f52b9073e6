"""The picture of a benchmark: streams a core against streams in a step, a line for each engine, and
the floor above them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from earshot.lab.benchmark.candidates import NAIVE
from earshot.lab.benchmark.floor import Direction
from earshot.lab.benchmark.peers import ENCODEC
from earshot.lab.benchmark.results import Results, Row
from earshot.lab.benchmark.runtimes import ONNXRUNTIME, OPENVINO
from earshot.lab.pictures import (
    BLUE,
    GREEN,
    GREY,
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

COLOURS = {
    "native": BLUE, "cuda": SKY, "torch": PURPLE, NAIVE: ORANGE, ONNXRUNTIME: VERMILION, OPENVINO: GREEN,
}  # fmt: skip
NAMES = {
    "native": "Earshot native", "cuda": "Earshot CUDA", "torch": "Earshot torch", NAIVE: "torch layer by layer",
    ONNXRUNTIME: "ONNX Runtime", OPENVINO: "OpenVINO",
}  # fmt: skip
DASHES = {"fp32": "-", "bf16": "--", "fp16": "-.", "int8": ":"}
MARKERS = {"fp32": "o", "bf16": "s", "fp16": "D", "int8": "^"}
TITLES: dict[Direction, str] = {"encode": "Encoding", "decode": "Decoding"}
DPI, INCHES = 90, (12.0, 7.2)


def streams_by_batch(results: Results, file: Path) -> None:
    """Draws encoding and decoding side by side.

    The `encodec` package, which takes whole signals, is a level line. Opus and paced steps are not
    drawn."""
    figure = new_figure(*INCHES, DPI)
    rows = [row for row in results.rows if row.key.engine == ENCODEC or (row.key.batch and not row.key.paced)]
    grid = figure.subplots(1, len(TITLES), sharey=True)
    for axes, direction in zip(grid, TITLES, strict=True):
        _panel(axes, [row for row in rows if row.key.direction == direction], direction)
    grid[0].set_ylim(bottom=0)  # not before all is drawn: it ends the search for the top
    grid[0].set_ylabel("streams a core, in real time", fontsize=SIZE)
    about = f"model {results.model}, {results.n_q} codebooks, frames of 13.3 ms"
    above_all(figure, f"Live EnCodec streams a core carries: {about}")
    legend_below(figure, grid, columns=4, size=SIZE - 1)
    save(figure, file)


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
    axes.set_xscale("log", base=2)
    ticks_at(axes, sorted({row.key.batch for row in stepping if row.key.batch}))
    axes.set_xlabel("streams stepped together", fontsize=SIZE)
    title(axes, TITLES[direction])
    gridded(axes)
