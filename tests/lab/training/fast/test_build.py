"""The kernels are compiled once, and a machine without a compiler trains without them."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from earshot.lab.training.fast import build


def test_they_are_compiled_once_for_each_source_and_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> None:
        commands.append(command)
        Path(command[command.index("-o") + 1]).write_bytes(b"library")

    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    first = build._compiled()
    assert first.read_bytes() == b"library"
    assert build._compiled() == first
    assert len(commands) == 1
    monkeypatch.setattr(build, "_flags", lambda: ["another", "processor"])
    assert build._compiled() != first
    assert len(commands) == 2
    assert {file.name for file in tmp_path.iterdir()} == {first.name, build._compiled().name}


def test_without_a_compiler_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(command: list[str], **_: Any) -> None:
        raise FileNotFoundError("no c++ here")

    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(build, "supported", lambda: True)
    monkeypatch.setattr(subprocess, "run", fail)
    with caplog.at_level(logging.WARNING):
        assert build.kernels.__wrapped__() is None
    assert "goes on without its own kernels" in caplog.text
    assert "no c++ here" in caplog.text


@pytest.mark.parametrize(
    ("device", "flags", "pays"),
    [
        ("cpu", ["avx2"], False),
        ("cpu", ["avx2", "avx512bw", "avx512_bf16"], True),
        ("cpu", [], True),
        ("cuda", ["avx2"], True),
    ],
    ids=["avx2", "avx512_bf16", "unknown", "gpu"],
)
def test_bfloat16_is_for_those_who_multiply_it(
    monkeypatch: pytest.MonkeyPatch, device: str, flags: list[str], pays: bool
) -> None:
    monkeypatch.setattr(build, "_flags", lambda: flags)
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    assert build.bf16_pays(torch.device(device)) == pays


def test_another_processor_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_flags", lambda: ["avx512_bf16", "avx512bw"])
    assert not build.supported()
    assert build.kernels.__wrapped__() is None
