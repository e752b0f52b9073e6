"""What is said of the page's figures, and what happens without npm or its answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from earshot.lab.pagebench.calls import CallRun, Load
from earshot.lab.pagebench.codecs import CodecRun, CodecTimes
from earshot.lab.pagebench.report import bound_table, bounds, call_lines, codec_table, to_json
from earshot.lab.pagebench.runtime import PACKAGE, fetch_runtime


def times(name: str, ms: float, differ: float = 0.0) -> CodecTimes:
    return CodecTimes(name, np.full(100, ms), np.linspace(ms, 2 * ms, 100), differ)


CODECS = CodecRun((times("relaxed.wasm", 0.5), times("onnxruntime-web matmul", 1.5, 0.25)), None)
LOAD = {"fetch_ms": 300.0, "load_ms": 150.0}
CALL = CallRun(
    "low", Load(400, 500, LOAD), Load(100, 200, LOAD), (60.0, 70.0, 200.0), "framing 13.3", ({"target": "27 ms"},) * 2
)


def test_every_figure_stands_beside_its_bound() -> None:
    found = {one.what: (round(one.value, 3), one.kept) for one in bounds(CODECS, [CALL])}
    assert found == {
        "encode and decode a frame, median": (1.25, True),
        "the same, p99": (1.495, True),
        "times faster than onnxruntime-web": (3.0, True),
        "page, module and weights, first visit": (0.9, True),
        "the same, weights kept": (0.3, True),
        "mouth to ear, p50, low": (70.0, True),
    }
    slow = CodecRun((times("relaxed.wasm", 5), times("onnxruntime-web matmul", 5)), None)
    assert [one.kept for one in bounds(slow, [])] == [False, False, False]
    assert len(bounds(CodecRun(CODECS.times[:1], "There is no npm."), [])) == 2


def test_a_terminal_and_a_file_tell_the_same() -> None:
    found = bounds(CODECS, [CALL])
    console = Console(record=True, width=80)
    for part in (codec_table(CODECS), bound_table(found), *call_lines(CALL)):
        console.print(part)
    said = console.export_text()
    assert "…" not in said
    for word in ("relaxed.wasm", "75.00%", "onnxruntime-web matmul", "3.00 x", "p50 70", "page 400 ms", "target 27 ms"):
        assert word in said
    told = to_json(CODECS, [CALL], found)
    assert told["codecs"][1]["codes_equal"] == 0.75
    assert told["calls"][0]["mouth_to_ear_ms"][50] == 70
    assert all(one["kept"] for one in told["bounds"])


@pytest.mark.parametrize(("npm", "said"), [(None, "no npm"), ("exit 1", "did not bring"), ("exit 0", "did not bring")])
def test_without_the_runtime_it_says_so(
    npm: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if npm:
        (tmp_path / "npm").write_text(f"#!/bin/sh\n{npm}\n")
        (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/nonexistent")
    told = fetch_runtime(tmp_path)
    assert told is not None
    assert said in told
    assert PACKAGE in told
