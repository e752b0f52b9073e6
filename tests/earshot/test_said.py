"""What commands say that others read: in a pipe, in a log, in a picture."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from matplotlib.figure import Figure
from typer.testing import CliRunner

from earshot.cli import app
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.terminal import Terminal
from earshot.codec.weights.load import load_model, save_native
from earshot.commands import progress
from earshot.commands.progress import Lines
from earshot.lab.evaluation.pictures import rate_quality
from earshot.lab.evaluation.tables import score_table
from earshot.lab.listening.clips import find_clips
from earshot.lab.loadtest import picture
from earshot.lab.loadtest.plan import Findings
from tests.lab.benchmark.test_results import results as benchmark_results
from tests.lab.evaluation.test_results import evaluation
from tests.lab.loadtest.test_load_tally import row
from tests.recordings import record, talk, write


def test_lines_come_now_and_then() -> None:
    now, out = 0.0, io.StringIO()
    lines = Lines("judging", Terminal(file=out), lambda: now)
    for now, done, what in (  # noqa: B007 -- the clock reads it
        (1.0, 1, ""),
        (10.0, 2, ""),
        (11.0, 3, "x"),
        (19.9, 4, ""),
        (20.0, 5, "[native] {x}"),
    ):
        lines.show(done, 10, what)
    assert out.getvalue() == "judging 20%\njudging 50% ([native] {x})\n"
    lines.show(1, 0)


def measured(patch: pytest.MonkeyPatch, *words: object) -> tuple[str, str]:
    """What a command prints and says in a pipe, where a line is due at each step."""
    patch.setattr(progress, "EVERY_S", 0.0)
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout, done.stderr


def bench(patch: pytest.MonkeyPatch, model: Path) -> tuple[str, str]:
    def run(options: object, command: str, show: Callable[[str, float], None]) -> Any:
        show("native int8", 0.5)
        return benchmark_results()

    patch.setattr("earshot.lab.benchmark.command.run", run)
    return measured(patch, "bench", "--quick")


def evaluate(patch: pytest.MonkeyPatch, model: Path) -> tuple[str, str]:
    def run(clips: object, options: object, command: str, show: Callable[[int, int], None]) -> Any:
        show(1, 2)
        return evaluation()

    patch.setattr("earshot.lab.evaluation.command.run", run)
    return measured(patch, "evaluate", "in.wav", "--kbps", "1.5")


def encode(patch: pytest.MonkeyPatch, model: Path) -> tuple[str, str]:
    return measured(patch, "encode", "in.wav", "out.ecdc", "--kbps", "1.5", "--model", model)


def decode(patch: pytest.MonkeyPatch, model: Path) -> tuple[str, str]:
    encode(patch, model)
    return measured(patch, "decode", "out.ecdc", "out.wav", "--model", model)


def export(patch: pytest.MonkeyPatch, model: Path) -> tuple[str, str]:
    return measured(patch, "export", "r.eshr", "--mix", "mix.flac", "--model", model)


def lay_out(folder: Path, model: Model, patch: pytest.MonkeyPatch) -> None:
    """Puts what the commands take into a folder, and goes there."""
    patch.chdir(folder)
    save_native(model.network, Path("m.safetensors"))
    soundfile.write("in.wav", np.zeros(2400), 24_000)
    write(Path("r.eshr"), record(model, talk(1, np.zeros((8, 75), int), 0)))


@pytest.mark.parametrize("command", [bench, evaluate, encode, decode, export])
def test_long_work_says_something_in_a_pipe(
    command: Callable[[pytest.MonkeyPatch, Path], tuple[str, str]],
    tmp_path: Path,
    tiny_model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lay_out(tmp_path, tiny_model, monkeypatch)
    out, said = command(monkeypatch, Path("m.safetensors"))
    assert "%" in said, "how far it is"
    assert said.count("\n") >= 1
    assert out
    assert "\x1b" not in out + said


@pytest.mark.parametrize("terminal", [True, False], ids=["on a terminal", "in a pipe"])
@pytest.mark.parametrize("command", [encode, decode, export])
def test_loading_is_said_on_a_terminal(
    command: Callable[[pytest.MonkeyPatch, Path], tuple[str, str]],
    terminal: bool,
    tmp_path: Path,
    tiny_model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lay_out(tmp_path, tiny_model, monkeypatch)
    console = Terminal(file=(out := io.StringIO()), width=80, force_terminal=terminal)
    module = sys.modules[f"earshot.commands.{'export' if command is export else 'files'}"]
    monkeypatch.setattr(module, "console", console)
    shown: list[str] = []

    def load(name: str) -> Model:
        shown.append(out.getvalue())
        out.truncate(0)
        return load_model(name)

    monkeypatch.setattr("earshot.codec.load", load)
    command(monkeypatch, Path("m.safetensors"))
    assert ["loading the model" in each for each in shown] == [terminal] * len(shown)
    assert shown


@pytest.mark.parametrize("where", ["the folder above", "a clip", "there", "nowhere", "an empty folder"])
def test_listen_says_where_the_sounds_are(where: str, tmp_path: Path) -> None:
    for clip in ("a", "b"):
        for name in ("reference", "opus"):
            file = tmp_path / "judged" / "audio" / clip / f"{name}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, np.full(2400, 0.1), 24_000)
    audio, empty = tmp_path / "judged" / "audio", tmp_path / "empty"
    empty.mkdir()
    if where == "there":
        assert list(find_clips(audio)) == ["a", "b"]
        return
    folder = {"the folder above": audio.parent, "a clip": audio / "a", "nowhere": tmp_path / "no"}.get(where, empty)
    with pytest.raises(UsageError) as error:
        find_clips(folder)
    assert (f"did you mean {audio}?" in str(error.value)) == (where in ("the folder above", "a clip"))


@pytest.mark.parametrize("clips", [1, 2])
def test_one_clip_has_no_interval(clips: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = evaluation()
    found = replace(found, clips=[*found.clips[:1]] * clips)
    out = io.StringIO()
    Terminal(file=out, width=200).print(score_table(found))
    titles: list[str] = []
    monkeypatch.setattr("earshot.lab.evaluation.pictures.above_all", lambda figure, text: titles.append(text))
    rate_quality(found, tmp_path / "q.png")
    for said in (out.getvalue(), titles[0]):
        assert ("95 %" in said) == (clips > 1)


@pytest.mark.parametrize(
    ("p99", "mark"), [(61.6, "61.6 ↑"), (3000.0, "3000.0 ↑"), (None, "none heard"), (33.0, ""), (12.0, "")]
)
def test_what_is_beyond_the_edge_of_a_picture_is_marked(
    p99: float | None, mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(picture, "save", lambda figure, file: drawn.append(figure))
    rows = [row(20, 5.0), replace(row(140), added_p50=5.0, added_p99=p99)]
    picture.draw(Findings("m", "0123456789abcdef", 6.0, 13.333, 2, rows), tmp_path / "x.png")
    texts = [text.get_text() for text in drawn[0].axes[0].texts]
    assert [text for text in texts if "↑" in text or "none" in text] == ([mark] if mark else [])


def test_a_call_in_which_nobody_was_heard_has_no_figures(tmp_path: Path) -> None:
    trace = tmp_path / "alone.txt"
    trace.write_text("earshot-arrivals 1 24000 320\n")
    done = CliRunner().invoke(app, ["arrivals", str(trace)])
    assert done.exit_code == 0
    assert " ".join(done.stderr.split()).endswith("alone.txt: nobody was heard in this call")
    assert done.stdout == ""
