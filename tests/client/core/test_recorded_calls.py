"""Calls of 30 s over the networks of `make netlab`, played again: when each packet of 3 frames (7
at 16 kbps) came was written down there, on a machine that did nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from earshot.client.core.replay import parse_trace, replay

RECORDED = Path(__file__).parents[2] / "data" / "arrivals"


@pytest.mark.parametrize(
    ("network", "underruns", "dry_s", "p95_ms"),
    [
        ("lan", 0, 0.0, 46),
        ("rtt50", 0, 0.0, 47),
        ("dsl", 1, 0.01, 77),
        ("wifi", 2, 0.05, 116),
        ("loss1", 8, 0.44, 150),
        ("loss3", 7, 0.35, 170),
        ("4g", 4, 0.85, 325),
        ("satellite", 4, 0.15, 140),
        ("thin", 4, 0.07, 192),
        ("cut", 6, 0.85, 1400),
    ],
)
def test_a_recorded_call(network: str, underruns: int, dry_s: float, p95_ms: float) -> None:
    """The delay is that from the fastest packet on."""
    trace = parse_trace((RECORDED / f"{network}.txt").read_text("utf-8"))
    figures = replay(trace, trace.sources[0], 0).figures()
    assert figures.frames_missing == 0
    assert figures.underruns <= underruns
    assert figures.underrun_s <= dry_s
    assert figures.delay_p95_ms <= p95_ms
