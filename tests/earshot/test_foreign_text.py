"""Names of files and people in everything that commands print: each place, with each kind of name
that a terminal or rich would take for more than a name."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from earshot.cli import app
from earshot.client.audio.portaudio import DeviceInfo
from earshot.client.ui.view import SpeakerState, ViewState, plain_line, render
from earshot.codec.errors import EarshotError
from earshot.codec.model.model import Model
from earshot.codec.terminal import Terminal
from earshot.codec.weights.load import save_native
from earshot.commands import devices as commands_devices
from earshot.commands import files
from earshot.lab.demo import show as demo_show
from earshot.lab.demo.conversation import DEMO, Plan
from earshot.lab.evaluation.tables import score_table
from earshot.lab.listening.report import table as listening_table
from earshot.lab.listening.scores import Rating, result
from earshot.lab.loadtest.plan import Findings
from earshot.lab.loadtest.report import show_run
from earshot.lab.training import library
from tests.lab.benchmark.test_results import results as benchmark_results
from tests.lab.evaluation.test_results import evaluation
from tests.lab.loadtest.test_load_tally import row
from tests.recordings import record, write

NAMES = ["Artist [live] [/x] [bold]{0} :bomb: {task [", "caf\udce9 \x1b[31mred a\u202eb \x9b2J"]
"""All that rich takes for markup, braces and emoji; and all that a terminal obeys."""
OBEYED = set("\x1b\x07\x9b\u202e\udce9")


def shown_of(name: str) -> str:
    return "".join(each for each in name.replace("\udce9", "\ufffd") if each not in OBEYED)


class Place:
    """What a place needs, and where it prints."""

    def __init__(self, folder: Path, model: Model, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.model = folder / "m.safetensors"
        save_native(model.network, self.model)
        self.tiny = model
        self.out = io.StringIO()
        self.console = Terminal(file=self.out, width=300)

    def run(self, *words: object) -> None:
        done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "300"})
        self.out.write(done.output)
        if done.exception and not isinstance(done.exception, SystemExit | EarshotError):
            raise done.exception

    def wav(self, name: str) -> Path:
        file = self.folder / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(os.fsencode(file), np.zeros(640, np.float32), 24_000)
        return file


def encode_a_file(place: Place, name: str) -> None:
    place.run("encode", place.wav(name), place.folder / f"{name}.ecdc", "--model", place.model)


def encode_a_folder(place: Place, name: str) -> None:
    place.wav(f"from/{name}")
    place.run("encode", place.folder / "from", place.folder / "to", "--model", place.model)


def a_file_that_fails(place: Place, name: str) -> None:
    place.wav(f"bad/{name}").write_text("no sound")
    place.run("encode", place.folder / "bad", place.folder / "to", "--model", place.model)


def info_of_codes(place: Place, name: str) -> None:
    encode_a_file(place, name)
    place.out.truncate(0)
    place.run("info", place.folder / f"{name}.ecdc")


def info_of_a_recording(place: Place, name: str) -> None:
    file = place.wav(name).with_suffix(".eshr")
    write(file, record(place.tiny, []))
    place.run("info", file)


def devices(place: Place, name: str) -> None:
    device = DeviceInfo(0, name, f"{name} api", 1, 2, 48_000.0, True, False)
    place.patch.setattr("earshot.client.audio.portaudio.list_devices", lambda: [device])
    place.run("devices")


def bench(place: Place, name: str) -> None:
    found = replace(benchmark_results(), missing=[name])
    place.patch.setattr("earshot.lab.benchmark.command.run", lambda *_: found)
    (place.folder / name).parent.mkdir(parents=True, exist_ok=True)
    place.run("bench", "--json", place.folder / name)


def load_test(place: Place, name: str) -> None:
    found = Findings(name, "0123456789abcdef", 6.0, 13.3, 2, [row(20, refused=f"{name}: no")])

    def run(plan: object, model: str, voices: Path, url: str, show: Callable[[str], None], *_: object) -> Findings:
        show(name)
        return found

    place.patch.setattr("earshot.lab.loadtest.report.run", run)
    show_run(place.console, None, name, place.folder, None)  # type: ignore[arg-type]


def evaluate(place: Place, name: str) -> None:
    place.console.print(score_table(replace(evaluation(), notes=[name])))


def evaluate_to_a_folder(place: Place, name: str) -> None:
    place.patch.setattr("earshot.lab.evaluation.command.run", lambda *_: evaluation())
    place.run("evaluate", "--out", place.folder / name, "--save-audio")


def listen(place: Place, name: str) -> None:
    place.console.print(listening_table(result([Rating("ada", "clip", name, 50, 1, "")])))


def demo(place: Place, name: str) -> None:
    def fail(*_: object) -> None:
        raise EarshotError(name)

    place.patch.setattr(demo_show, "converse", fail)
    with pytest.raises(EarshotError):
        demo_show.demo(place.console, Plan(DEMO, place.folder, server=name))
    demo_show._judge(place.console, [name])
    place.console.print(demo_show.panels([{}, {}], 0.5, (replace(DEMO[0], name=name), DEMO[1]), name))


def the_view_of_a_call(place: Place, name: str) -> None:
    name = name.replace("\udce9", "\ufffd")  # JSON, in which names of people come, has no such bytes
    state = ViewState("me", "den", name, detail=name, speakers=[SpeakerState(name, music=name)])
    place.console.print(render(state))
    place.console.say(plain_line(state))


def progress_of_training(place: Place, name: str) -> None:
    place.patch.setattr(library, "Terminal", lambda **_: Terminal(file=place.out, width=300, force_terminal=True))
    place.patch.setenv("NO_COLOR", "1")
    assert list(library._bar([1], f"finding {name}", True)) == [1]


def the_end_of_train_lm(place: Place, name: str) -> None:
    class Run:
        def __init__(self, *_: object) -> None:
            self.checkpoint, self.trainer = place.folder / "none", SimpleNamespace(step=1)

        def go(self, *_: object) -> None:
            pass

    place.patch.setattr("earshot.lab.training.lm_run.LmRun", Run)
    place.run("train-lm", place.model, place.wav("voices/a").parent, "--kbps", 1.5, "--out", place.folder / name)


PLACES: list[Callable[[Place, str], None]] = [
    encode_a_file,
    encode_a_folder,
    a_file_that_fails,
    info_of_codes,
    info_of_a_recording,
    devices,
    bench,
    load_test,
    evaluate,
    evaluate_to_a_folder,
    listen,
    demo,
    the_view_of_a_call,
    progress_of_training,
    the_end_of_train_lm,
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("show", PLACES)
def test_a_name_is_shown_as_it_is(
    show: Callable[[Place, str], None],
    name: str,
    tmp_path: Path,
    tiny_model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for console in (files.console, commands_devices.console):
        monkeypatch.setattr(console, "width", 300)
    place = Place(tmp_path, tiny_model, monkeypatch)
    show(place, name)
    shown = place.out.getvalue()
    shown = re.sub(r"\x1b\[\??\d*[AKhl]", "", shown)  # rich moves the cursor
    assert shown_of(name) in shown
    assert not set(shown) & OBEYED, ascii(shown)
