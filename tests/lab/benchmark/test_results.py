"""Results as JSON, as tables and as a picture."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib import image
from matplotlib.figure import Figure
from rich.console import Console

from earshot.lab.benchmark.pictures import streams_by_batch
from earshot.lab.benchmark.results import Key, Results, Row
from earshot.lab.benchmark.table import result_table

NATIVE = Key("native", "fp32", "avx512", "encode", 1, paced=False)
BF16, RUNTIME = replace(NATIVE, precision="bf16"), replace(NATIVE, engine="onnxruntime", kernels="matmul")
OFFLINE = replace(NATIVE, engine="encodec", kernels=None, batch=None)


def results() -> Results:
    encoders = [
        Row(OFFLINE, 50.0, 10.0, None, 1.0, 3),
        Row(NATIVE, 40.0, 20.0, 1.0, 1.25, 3),
        Row(BF16, 20.0, 16.0, 0.955, 2.5, 3),
        Row(RUNTIME, 80.0, 20.0, None, 0.625, 3),
        Row(replace(NATIVE, paced=True), 60.0, 30.0, 1.0, 50 / 60, 3),
        Row(replace(NATIVE, batch=32), 12.5, 10.0, 1.0, 4.0, 3),
        Row(replace(BF16, batch=32), 8.0, 5.0, 0.955, 6.25, 3),
        Row(replace(RUNTIME, batch=32), 25.0, 10.0, None, 2.0, 3),
    ]
    decoders = [replace(row, key=replace(row.key, direction="decode"), codes_equal=None) for row in encoders]
    machine = {"processor": "A Processor", "gmac_per_second": {"fp32": 140.0}}
    return Results("full", 8, encoders + decoders, machine, ["openvino is not installed: pip install it"])


def shown(width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(result_table(results()))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_json() -> None:
    told = json.loads(results().to_json("earshot bench"))
    assert (told["model"], told["n_q"], told["command"], len(told["rows"])) == ("full", 8, "earshot bench", 16)
    assert told["machine"]["gmac_per_second"] == {"fp32": 140.0}
    assert told["rows"][1] == {
        "engine": "native",
        "precision": "fp32",
        "kernels": "avx512",
        "direction": "encode",
        "batch": 1,
        "paced": False,
        "ms_per_audio_s": 40.0,
        "streams_per_core": 25.0,
        "floor_ms_per_audio_s": 20.0,
        "times_floor": 2.0,
        "codes_equal": 1.0,
        "ratio_to_encodec": 1.25,
        "rounds": 3,
    }
    assert told["rows"][0]["batch"] is told["rows"][0]["codes_equal"] is None


def test_table_fits_a_terminal_and_puts_the_fastest_first() -> None:
    text = shown()
    assert "…" not in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    section = lines.index("encode, B = 1")
    assert lines[section + 1] == "native avx512 bf16 20.00 50.0 2.50 1.25 95.50 %"
    assert lines[section + 2] == "native avx512 fp32 40.00 25.0 1.25 2.00 100.00 %"
    assert lines[section + 3] == "onnxruntime matmul fp32 80.00 12.5 0.62 4.00 -"
    assert "encode, B = 1, paced" in lines
    assert "decode, whole signals" in lines
    assert "openvino is not installed: pip install it" in lines


def test_picture(tmp_path: Path, drawn: list[Figure]) -> None:
    streams_by_batch(results(), tmp_path / "engine.png")
    encode, decode = drawn[0].axes
    assert (encode.get_title("left"), decode.get_title("left")) == ("Encoding", "Decoding")
    assert encode.get_xscale() == "log"
    lines = {str(line.get_label()): line for line in encode.lines}
    assert list(lines["Earshot native, fp32"].get_xdata()) == [1, 32]
    assert list(lines["Earshot native, fp32"].get_ydata()) == [25.0, 80.0], "tight, not paced"
    assert list(lines["ONNX Runtime, fp32"].get_ydata()) == [12.5, 40.0]
    assert list(lines["the most this core can do, fp32"].get_ydata()) == [50.0, 100.0]
    assert list(lines["the most this core can do, bf16"].get_ydata()) == [62.5, 200.0]
    assert set(lines["encodec package, whole signals"].get_ydata()) == {20.0}
    assert np.asarray(image.imread(tmp_path / "engine.png")).std() > 0.05
    assert (tmp_path / "engine.png").stat().st_size < 150_000


def test_nothing_measured_is_drawn_all_the_same(tmp_path: Path) -> None:
    streams_by_batch(replace(results(), rows=[]), tmp_path / "empty.png")
    assert (tmp_path / "empty.png").is_file()
