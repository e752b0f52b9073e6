"""`earshot evaluate`, from its arguments to its files."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from matplotlib.figure import Figure
from typer.testing import CliRunner

from earshot.cli import app
from earshot.codec.audio_files import read_audio
from earshot.codec.errors import ModelError, UsageError
from earshot.codec.model.model import Model
from earshot.codec.weights.load import save_native
from earshot.lab.evaluation import lyra, stress
from earshot.lab.evaluation.bands import BAND_KEYS
from earshot.lab.evaluation.command import EvaluationOptions, family_name, run
from tests.conftest import VOICES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Model) -> Path:
    """Makes a folder with `clips/ada.wav` of 1.5 s, and `model.safetensors`."""
    place = tmp_path_factory.mktemp("evaluate")
    (place / "clips").mkdir()
    soundfile.write(place / "clips" / "ada.wav", read_audio(VOICES / "ada.flac", 24_000, 1.5), 24_000)
    save_native(tiny_model.network, place / "model.safetensors", torch.float32)
    return place


RUNNER = """
class Lyra:
    def __init__(self, folder): assert folder
    def run(self, pcm, kbps): return pcm / 2
"""


def options(folder: Path, **others: object) -> EvaluationOptions:
    base = {
        "models": (str(folder / "model.safetensors"),),
        "kbps": (6.0,),
        "opus_kbps": (),
        "words": False,
        "mos": False,
        "jobs": 1,
    }
    return EvaluationOptions(**{**base, **others})  # type: ignore[arg-type]


def test_command_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [str(folder / "clips"), "--model", str(folder / "model.safetensors"), "--kbps", "1.5", "--kbps", "6"]
    options = ["--opus", "12", "--no-words", "--jobs", "1", "--out", str(tmp_path / "out"), "--save-audio"]
    command = ["evaluate", *arguments, *options]
    monkeypatch.setattr(sys, "argv", ["bin/earshot", *command])
    done = CliRunner().invoke(app, command, catch_exceptions=False, terminal_width=120)
    assert done.exit_code == 0
    for words in (
        "earshot 1.5 kbps",
        "earshot 6 kbps",
        "opus 12 kbps",
        "STOI",
        "PESQ",
        "DNSMOS",
        "by band in kHz",
        "1 clip, 2 s",
        "written to",
        "earshot listen",
    ):
        assert words in done.output
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["command"] == shlex.join(["earshot", *command])
    assert [system["name"] for system in scores["systems"]] == [
        "original", "earshot-1.5kbps", "earshot-6kbps", "opus-12kbps",
    ]  # fmt: skip
    assert (tmp_path / "out" / "rate-quality.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in (tmp_path / "out" / "audio" / "ada").iterdir()) == [
        "earshot-1.5kbps.wav", "earshot-6kbps.wav", "opus-12kbps.wav", "reference.wav",
    ]  # fmt: skip


def test_missing_packages_cost_their_measures_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pesq", "av", "pocketsphinx", "distillmos"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    found = run([str(folder / "clips")], options(folder, opus_kbps=(6.0,), words=True, mos=True, all_english=True))
    assert found.notes == [
        "left out, because their packages are not installed: PESQ-WB, DistillMOS, WER, words changed, Opus; "
        "pip install 'earshot[evaluate,mos]'"
    ]
    assert [system.name for system in found.systems] == ["original", "earshot-6kbps"]
    whole = {"stoi", "si_snr", "mel", "level", "dnsmos"}
    assert set(found.scores[1].values) == whole | BAND_KEYS
    assert set(found.scores[0].values) == {"dnsmos"}, "of the original, what it is worth by itself"


def test_lyra_stands_beside_us_where_its_folder_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[Figure]
) -> None:
    """With a runner of the test's own, since Lyra's models are not part of Earshot."""
    clips, out = [str(folder / "clips")], tmp_path / "out"
    with pytest.raises(UsageError, match=r"no lyra_peer\.py"):
        run(clips, options(folder, lyra=tmp_path))
    (tmp_path / "lyra_peer.py").write_text(RUNNER)
    monkeypatch.setitem(sys.modules, lyra.PACKAGE, None)  # as if it were not installed
    found = run(clips, options(folder, lyra=tmp_path))
    assert found.notes == ["left out, because their packages are not installed: Lyra; pip install 'earshot[lyra]'"]
    monkeypatch.setattr(lyra, "installed", lambda: True)
    found = run(clips, options(folder, lyra=tmp_path, out=out))
    assert not found.notes
    assert [system.name for system in found.systems[2:]] == ["lyra-3.2kbps", "lyra-6kbps", "lyra-9.2kbps"]
    level = found.summary("lyra-6kbps", "level")
    assert level is not None
    assert level.mean == pytest.approx(-6.02, abs=0.01)
    (figure,) = drawn
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["earshot", "lyra"]


def test_several_models_are_told_apart(folder: Path) -> None:
    model = str(folder / "model.safetensors")
    found = run([str(folder / "clips")], options(folder, models=(model, model)))
    assert [info.family for info in found.models] == [folder.name, f"{folder.name}-2"]
    assert found.scores[1].values == found.scores[2].values
    assert family_name("default", 1) == "earshot"
    assert [family_name(given, 2) for given in ("default", "runs/a/model.safetensors", "b.th")] == ["default", "a", "b"]


def test_what_cannot_be_is_said_before_the_work(folder: Path, tmp_path: Path) -> None:
    clips = [str(folder / "clips")]
    with pytest.raises(UsageError, match="name clips"):
        run([], options(folder))
    with pytest.raises(UsageError, match="needs a folder: --out"):
        run(clips, options(folder, save_audio=True))
    with pytest.raises(UsageError, match="7"):
        run(clips, options(folder, kbps=(7.0,)))
    with pytest.raises(ModelError, match="no model"):
        run(clips, options(folder, models=("nothing",)))


def test_stress_fails_where_a_model_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stress, "SECONDS", 0.2)
    arguments = ["evaluate", "--stress", "--model", str(folder / "model.safetensors"), "--kbps", "6"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 1
    assert "too quiet" in done.output or "too loud" in done.output
    monkeypatch.setattr(stress, "through_stream", lambda model, pcm, kbps: pcm)
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
