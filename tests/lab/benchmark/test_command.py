"""`earshot bench`, from its arguments to its files, with time that stands in for the
processor's."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from earshot.cli import app
from earshot.codec.engine.native.engine import kernel_names
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.weights.load import save_native
from earshot.lab.benchmark import command, runner
from earshot.lab.benchmark.candidates import Candidate
from earshot.lab.benchmark.command import BenchmarkOptions, run
from earshot.lab.benchmark.machine import Probe
from earshot.lab.benchmark.peers import PEERS
from earshot.lab.benchmark.runner import Effort

MS = {"encodec": 50.0, "onnxruntime": 25.0, "native": 10.0}
SMALL = Effort(rounds=3, turn_seconds=0.0, paced_frames=1, codes=32, signal_seconds=0.2)


@pytest.fixture(scope="module")
def model(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "tiny.safetensors"
    save_native(tiny_model.network, path)
    return path


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a turn step once and take what MS says, a tenth more or less in the first two
    rounds."""
    turns: dict[Any, Any] = {}

    def turn(own: Candidate, *_: object) -> float:
        own.step()
        drift = (1.1, 0.9, 1.0)[next(turns.setdefault(own.key, count())) % 3]
        return MS.get(own.key.engine, 100.0) * drift

    monkeypatch.setattr(runner, "tight_turn", turn)
    monkeypatch.setattr(runner, "paced_turn", lambda *_: 200.0)
    monkeypatch.setattr(command, "QUICK", SMALL)
    monkeypatch.setattr("earshot.lab.benchmark.machine.TURN_SECONDS", 1e-4)


def few_peers(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in set(PEERS) - set(names):
        monkeypatch.delitem(PEERS, name)


@pytest.mark.usefixtures("fake_time")
def test_quick(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_peers(monkeypatch, "encodec", "onnxruntime")
    files = ["--json", str(tmp_path / "rows.json"), "--png", str(tmp_path / "engine.png")]
    done = CliRunner().invoke(app, ["bench", "--quick", "--model", str(model), "--precision", "fp32", *files])
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "rows.json").read_text())
    assert (tmp_path / "engine.png").stat().st_size > 10_000
    assert set(told["machine"]["gmac_per_second"]) >= {"fp32"}
    rows = {(r["engine"], r["direction"], r["batch"], r["paced"]): r for r in told["rows"]}
    assert len(rows) == len(told["rows"])
    native = rows["native", "encode", 32, False]
    assert (native["ms_per_audio_s"], native["ratio_to_encodec"], native["rounds"]) == (10.0, 5.0, 3)
    assert native["kernels"] == kernel_names()[0]
    assert native["codes_equal"] == rows["torch", "encode", 32, False]["codes_equal"] == 1.0
    assert native["floor_ms_per_audio_s"] > 0
    assert rows["onnxruntime", "decode", 1, False]["ratio_to_encodec"] == 2.0
    assert rows["native", "decode", 1, True]["ms_per_audio_s"] == 200.0
    assert rows["native", "decode", 1, True]["codes_equal"] is None
    assert {key[2] for key in rows} == {None, 1, 32}
    assert [key for key in rows if key[0] == "encodec"] == [
        ("encodec", "encode", None, False),
        ("encodec", "decode", None, False),
    ]
    assert "encode, B = 1, paced" in done.output


@pytest.mark.usefixtures("fake_time")
def test_every_set_of_kernels_and_no_peers(model: Path) -> None:
    found = run(
        BenchmarkOptions(str(model), batches=(2,), quick=True, peers=False, precisions=("fp32",), kernels=("all",))
    )
    sets = [row.key.kernels for row in found.rows if row.key.engine == "native" and row.key.direction == "encode"]
    assert sets == kernel_names()
    assert {row.key.engine for row in found.rows} == {"torch, naive", "torch", "native"}
    assert {row.codes_equal for row in found.rows if row.key.engine == "native"} == {1.0, None}
    assert not any(row.key.paced for row in found.rows), "only one stream is paced"
    assert not found.missing


@pytest.mark.usefixtures("fake_time")
def test_whole_signal_peers_take_part_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_peers(monkeypatch, "transformers", "opus")
    found = run(BenchmarkOptions(str(model), batches=(1, 2), quick=True, precisions=("fp32",)))
    whole = [(row.key.engine, row.key.direction) for row in found.rows if row.key.batch is None]
    assert sorted(whole) == [(who, d) for who in ("opus", "transformers") for d in ("decode", "encode")]
    assert all(row.floor_ms_per_audio_s is None for row in found.rows if row.key.engine == "opus")
    assert all(row.ratio_to_encodec is None for row in found.rows), "encodec does not take part"


def test_missing_peers_are_told_with_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from earshot.lab.benchmark import peers

    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    told = peers.what_is_missing(list(PEERS))
    assert len(told) == len(PEERS)
    assert ("encodec is not installed: pip install 'earshot[bench]' && pip install --no-deps encodec==0.1.1") in told


def test_time_is_counted_as_what_a_stream_takes() -> None:
    key: Any = None
    ticks = iter([0.0, 0.0, 0.004, 0.004, 0.004, 0.010, 1.0])
    own = Candidate(key, lambda: None, seconds=2.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.time, "process_time", lambda: next(ticks))
        assert runner.tight_turn(own, 0.009) == pytest.approx(1000 * 0.005 / 2)


def test_the_probe_measures_this_machine(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from earshot.lab.benchmark.floor import Work

    probe = Probe(Work(1e6, 1000, 75.0))
    assert probe.machine() is None
    probe.turn()
    machine = probe.machine()
    assert machine
    assert machine.macs_per_second["fp32"] > 1e6
    assert machine.floor_ms(Work(1e6, 1000, 75.0), "fp32", 1, cold=True) > 0


@pytest.mark.parametrize("size", [0, 1, 127, 128, 4099])
def test_all_of_the_memory_is_read(size: int) -> None:
    from earshot.codec.engine.native._native import multiply_adds, read_once

    assert read_once(np.arange(size, dtype=np.float32)) == size * (size - 1) / 2
    assert multiply_adds("fp32", 10) > 0
    assert multiply_adds("fp64", 10) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (BenchmarkOptions(batches=(0,)), "1..1024"),
        (BenchmarkOptions(precisions=("fp64",)), "fp64"),
        (BenchmarkOptions(kernels=("mmx",)), "mmx"),
        (BenchmarkOptions(kbps=7.0), "no rate"),
        (BenchmarkOptions(png=Path("no/such/folder/a.png")), "no folder"),
    ],
)
def test_what_cannot_be(options: BenchmarkOptions, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run(options)


def test_batches_are_numbers() -> None:
    done = CliRunner().invoke(app, ["bench", "--batches", "1,two"])
    assert isinstance(done.exception, UsageError)
    assert "whole numbers" in str(done.exception)
