from __future__ import annotations

from pathlib import Path

import numpy as np

from earshot.lab.netlab.figures import Figures, measured
from earshot.lab.netlab.report import draw, table

RATE = 24_000


def row(system: str, profile: str, **more: float | None) -> Figures:
    delays = {"delay_p50_ms": 80.0, "delay_p95_ms": 90.0, "delay_p99_ms": None}
    fields = {**delays, "stoi": None, "pesq": 1.5, "plcmos": 3.0, **more}
    others = {"underruns_a_minute": 1.0, "concealed": 0.01, "up_kbps": 20.0, "down_kbps": 19.0}
    return Figures(system=system, profile=profile, seconds=20.0, **others, **fields)  # type: ignore[arg-type]


def test_a_table_in_the_order_of_the_profiles() -> None:
    lines = table([row("aiortc", "lan"), row("earshot", "thin"), row("earshot", "lan", delay_p99_ms=95.2)]).splitlines()
    assert lines[2].startswith("| LAN | earshot | 80 | 90 | 95 | 1.0 | 1.0% | - | 1.50 | 3.00 | 20.0 | 19.0 |")
    assert [line.split(" | ")[1] for line in lines[2:]] == ["earshot", "aiortc", "earshot"]


def test_a_picture(tmp_path: Path) -> None:
    draw([row("earshot", "lan", delay_p99_ms=95.0), row("aiortc", "lan")], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_delays_are_those_of_the_sound() -> None:
    spoken = np.random.default_rng(0).standard_normal(6 * RATE).astype(np.float32) * 0.1
    heard = np.concatenate([np.zeros(RATE // 10, np.float32), spoken])
    found = measured(spoken, heard, RATE, 1_000_000, 1_050_000)
    assert found["delay_p50_ms"] is not None
    assert abs(found["delay_p50_ms"] - 150) < 2
