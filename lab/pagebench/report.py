"""What the figures of the page are, and which of them keep their bounds, in a terminal and as
JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from earshot.lab.pagebench.calls import CallRun
from earshot.lab.pagebench.codecs import CodecRun, CodecTimes


@dataclass(frozen=True)
class Bound:
    """A figure and what is asked of it."""

    what: str
    value: float
    bound: float
    unit: str
    least: bool = False
    """Whether the figure must be at least the bound, and not at most."""

    @property
    def kept(self) -> bool:
        return self.value >= self.bound if self.least else self.value <= self.bound

    def row(self) -> tuple[str, str, str, str]:
        sign = ">=" if self.least else "<="
        return (
            self.what,
            f"{self.value:.2f} {self.unit}",
            f"{sign} {self.bound:g} {self.unit}",
            "ok" if self.kept else "missed",
        )


def bounds(codecs: CodecRun | None, calls: Sequence[CallRun]) -> list[Bound]:
    """Returns the figures for which there are bounds. `calls` begin with the default setting."""
    found = []
    if codecs is not None:
        both = codecs.times[0].both
        found.append(Bound("encode and decode a frame, median", float(np.median(both)), 1.6, "ms"))
        found.append(Bound("the same, p99", float(np.percentile(both, 99)), 6.0, "ms"))
        faster = codecs.times_faster()
        if faster is not None:
            found.append(Bound("times faster than onnxruntime-web", faster, 2.0, "x", least=True))
    if calls:
        found.append(Bound("page, module and weights, first visit", calls[0].first.total_ms / 1000, 2.0, "s"))
        found.append(Bound("the same, weights kept", calls[0].again.total_ms / 1000, 2.0, "s"))
    found += [Bound(f"mouth to ear, p50, {call.latency}", call.mouth_to_ear(50), 110.0, "ms") for call in calls]
    return found


def codec_table(run: CodecRun) -> Table:
    """Returns the milliseconds that each codec takes for a frame."""
    shown = Table(title=f"ms for a frame of 13.3 ms, {run.times[0].both.size} frames each, in turn")
    for name in ("codec", "encode p50", "decode p50", "both p50", "both p99", "worst", "codes equal"):
        first = name == "codec"
        shown.add_column(name, justify="left" if first else "right", no_wrap=first)
    for one in run.times:
        both = one.both
        points = (np.median(one.encode), np.median(one.decode), np.median(both), np.percentile(both, 99), both.max())
        shown.add_row(one.name, *(f"{point:.2f}" for point in points), f"{100 * (1 - one.codes_differ):.2f}%")
    return shown


def call_lines(run: CallRun) -> list[str]:
    """Returns what a call was like, in lines."""
    ages = ", ".join(f"p{point} {run.mouth_to_ear(point):.0f}" for point in (5, 50, 95))
    lines = [f"{run.latency}: mouth to ear {ages} ms; of that {run.stages}"]
    for load, when in ((run.first, "first"), (run.again, "again")):
        fetch, pack = load.codec["fetch_ms"], load.codec["load_ms"]
        lines.append(
            f"{when}: page {load.page_ms:.0f} ms, then {load.joining_ms:.0f} ms from the click until it can talk"
            f" (weights {fetch:.0f}, packing {pack:.0f})"
        )
    lines += [", ".join(f"{name} {value}" for name, value in page.items()) for page in run.shown]
    return lines


def bound_table(found: Sequence[Bound]) -> Table:
    """Returns the figures beside their bounds."""
    shown = Table(title="the page")
    for name in ("figure", "value", "bound", ""):
        shown.add_column(name, justify="right" if name == "value" else "left")
    for one in found:
        shown.add_row(*one.row())
    return shown


def to_json(codecs: CodecRun | None, calls: Sequence[CallRun], found: Sequence[Bound]) -> dict[str, Any]:
    """Returns all figures for a file."""
    return {
        "bounds": [{"figure": one.what, "value": one.value, "bound": one.bound, "kept": one.kept} for one in found],
        "codecs": [] if codecs is None else [_codec_json(one) for one in codecs.times],
        "calls": [
            {
                "latency": call.latency,
                "mouth_to_ear_ms": {point: call.mouth_to_ear(point) for point in (5, 50, 95)},
                "load_ms": {"first": call.first.total_ms, "again": call.again.total_ms},
                "shown": list(call.shown),
            }
            for call in calls
        ],
    }


def _codec_json(one: CodecTimes) -> dict[str, Any]:
    points = {f"p{point}": float(np.percentile(one.both, point)) for point in (50, 95, 99)}
    return {
        "name": one.name,
        "encode_ms": float(np.median(one.encode)),
        "decode_ms": float(np.median(one.decode)),
        "both_ms": points,
        "codes_equal": 1 - one.codes_differ,
    }
