"""Pictures of a call: what was spoken above what was heard, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from numpy.typing import NDArray

from earshot.codec.pcm import Pcm
from earshot.lab.pictures import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SIZE,
    SKY,
    VERMILION,
    YELLOW,
    new_figure,
    open_frame,
    save,
    title,
)

Array = NDArray[np.float64]

SPOKEN, HEARD = BLUE, VERMILION
STAGE_COLOURS = ("#999999", ORANGE, GREEN, YELLOW, SKY, BLUE, PURPLE, VERMILION)
MARKS = {"p50": "-", "p95": "--", "p99": ":"}
LINE_TOP = 0.62
"""Height of a line in a distribution, as a share of its height; the legend is above."""
FFT, RANGE_DB = 512, 60.0


@dataclass(frozen=True)
class Heard:
    """One direction of talk; `heard` is shifted by the delay so that both are of the same moments.
    float32 [n] each."""

    title: str
    figures: str
    """One line under the title."""
    spoken: Pcm
    heard: Pcm
    sample_rate: int


@dataclass(frozen=True)
class Delay:
    """The delay of one direction over time: `stages_ms` [rows] each, in the order that they are
    stacked."""

    title: str
    times_s: Sequence[float]
    stages_ms: Mapping[str, Sequence[float]]
    percentiles_ms: Mapping[str, float]
    """"p50", "p95" and "p99" of all packets; the rows may be averages."""
    correlation_ms: float | None = None
    """The delay that was measured by the sound alone."""


def spoken_heard(directions: Sequence[Heard], path: Path) -> None:
    """Draws waveforms and spectrograms, spoken above heard; a column for each direction."""
    figure = new_figure(7.2 * len(directions), 7.6)
    grid = figure.subplots(4, len(directions), squeeze=False, sharex="col", height_ratios=[1, 1, 1.6, 1.6])
    for column, direction in enumerate(directions):
        top = grid[0][column]
        top.set_title(f"{direction.title}\n", fontsize=SIZE + 2, fontweight="bold", color=INK)
        top.text(0.5, 1.06, direction.figures, transform=top.transAxes, ha="center", fontsize=SIZE, color=INK)
        sides = ("spoken", direction.spoken, SPOKEN), ("heard", direction.heard, HEARD)
        peak = max(0.05, *(float(np.abs(pcm).max(initial=0)) for _, pcm, _ in sides))
        loudest = max(float(np.percentile(_decibels(direction.spoken), 99.8)), -60.0)
        for row, (name, pcm, colour) in enumerate(sides):
            _waveform(grid[row][column], pcm, direction.sample_rate, colour, peak)
            _spectrogram(grid[row + 2][column], pcm, direction.sample_rate, loudest)
            for axes in (grid[row][column], grid[row + 2][column]):
                axes.set_ylabel(name, fontsize=SIZE, color=colour, fontweight="bold")
        grid[3][column].set_xlabel("seconds", fontsize=SIZE)
        grid[3][column].set_xlim(0, direction.spoken.size / direction.sample_rate)
    save(figure, path)


def latency(directions: Sequence[Delay], path: Path) -> None:
    """Draws a row for each direction: the stages stacked over time, and the distribution of their
    sum."""
    figure = new_figure(14.4, 0.7 + 3.6 * len(directions))
    grid = figure.subplots(len(directions), 2, squeeze=False, width_ratios=[2.6, 1])
    most = max((_most(direction) for direction in directions), default=1.0)
    handles: list[Artist] = []
    names: list[str] = []
    for row, direction in enumerate(directions):
        stack, spread = grid[row]
        areas = _stack(stack, direction, most)
        _distribution(spread, direction)
        if row == len(directions) - 1:
            stack.set_xlabel("seconds", fontsize=SIZE)
            spread.set_xlabel("mouth to ear, ms", fontsize=SIZE)
            handles, names = areas, list(direction.stages_ms)
    if handles:
        figure.legend(
            handles[::-1], names[::-1], loc="outside right center", fontsize=SIZE, frameon=False,
            title="stage", title_fontsize=SIZE,
        )  # fmt: skip
    save(figure, path)


def _plain(axes: Axes) -> None:
    axes.locator_params(axis="x", nbins=6, steps=[1, 2, 5, 10])
    axes.tick_params(labelsize=SIZE - 1, colors=INK)
    open_frame(axes)


def _waveform(axes: Axes, pcm: Pcm, sample_rate: int, colour: str, peak: float) -> None:
    """Draws the extremes of each of a thousand parts, so that no peak is lost between two
    pixels."""
    parts = np.array_split(pcm, min(1000, max(1, pcm.size)))
    low, high = (np.array([edge(part) if part.size else 0.0 for part in parts]) for edge in (np.min, np.max))
    times = np.linspace(0, pcm.size / sample_rate, len(parts), endpoint=False)
    axes.fill_between(times, low, high, color=colour, linewidth=0.4)
    axes.set_ylim(-1.1 * peak, 1.1 * peak)
    axes.set_yticks([])
    axes.axhline(0, color=FAINT, linewidth=0.6, zorder=0)
    _plain(axes)


def _decibels(pcm: Pcm) -> Array:
    """Returns a spectrogram [frames, bins], with about 1500 frames of a long signal."""
    hop = max(FFT // 4, pcm.size // 1500)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(pcm, FFT // 2), FFT)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(FFT))) ** 2
    return np.asarray(10 * np.log10(power + 1e-9), np.float64)


def _spectrogram(axes: Axes, pcm: Pcm, sample_rate: int, loudest: float) -> None:
    axes.imshow(
        _decibels(pcm).T, origin="lower", aspect="auto", cmap="magma", vmin=loudest - RANGE_DB, vmax=loudest,
        extent=(0, max(pcm.size, 1) / sample_rate, 0, sample_rate / 2000), interpolation="antialiased",
    )  # fmt: skip
    axes.set_yticks([4, 8, 12], ["4 kHz", "8 kHz", "12 kHz"])
    _plain(axes)


def _total(direction: Delay) -> Array:
    return np.asarray(np.sum([np.asarray(values) for values in direction.stages_ms.values()], axis=0), np.float64)


def _most(direction: Delay) -> float:
    """Returns the top of the axis, which leaves out the rarest peaks."""
    total = _total(direction)
    return float(max(np.percentile(total, 99.5), direction.percentiles_ms.get("p99", 0))) * 1.15 if total.size else 1.0


def _stack(axes: Axes, direction: Delay, most: float) -> list[Artist]:
    layers = [np.maximum(np.asarray(values, np.float64), 0) for values in direction.stages_ms.values()]
    areas = axes.stackplot(np.asarray(direction.times_s), *layers, colors=STAGE_COLOURS, linewidth=0)
    axes.set_ylim(0, most)
    if len(direction.times_s) > 1:
        axes.set_xlim(min(direction.times_s), max(direction.times_s))
    title(axes, direction.title)
    axes.set_ylabel("ms", fontsize=SIZE)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    _plain(axes)
    return list(areas)


def _distribution(axes: Axes, direction: Delay) -> None:
    total = _total(direction)
    marks = {name: value for name, value in direction.percentiles_ms.items() if name in MARKS}
    if total.size:
        highest = max([float(np.percentile(total, 99.5)), *marks.values()])
        lowest = float(np.percentile(total, 0.5))
        margin = max(1.0, 0.15 * (highest - lowest))
        axes.hist(total, bins=40, range=(lowest - margin, highest + margin), color=SKY)
        axes.set_xlim(lowest - margin, highest + margin)
    for name, value in marks.items():
        axes.axvline(
            value, color=INK, linestyle=MARKS[name], linewidth=1.6, ymax=LINE_TOP, label=f"{name}  {value:.1f} ms"
        )
    if direction.correlation_ms is not None:
        axes.axvline(
            direction.correlation_ms,
            color=HEARD,
            linewidth=2,
            ymax=LINE_TOP,
            label=f"by sound  {direction.correlation_ms:.1f} ms",
        )
    if marks:
        axes.legend(fontsize=SIZE - 1, frameon=False, loc="upper right", handlelength=1.6)
        axes.set_ylim(top=axes.get_ylim()[1] * 1.65)
    axes.set_yticks([])
    axes.set_title("distribution", fontsize=SIZE + 1, loc="left", color=INK)
    _plain(axes)
    axes.spines["left"].set_visible(False)
