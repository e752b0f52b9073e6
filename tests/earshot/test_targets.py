"""Files that commands write: nothing of the user's is lost, and names say what is in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from earshot.cli import app
from earshot.client.audio.choice import open_sink
from earshot.codec import audio_formats
from earshot.codec.audio_files import audio_files
from earshot.codec.ecdc.files import decode_file, encode_file
from earshot.codec.errors import AudioError, EarshotError, UsageError
from earshot.codec.model.model import Model
from earshot.codec.weights.load import save_native
from earshot.commands import targets
from tests.recordings import record, write

ROOM = ("call", "den", "--server", "ws://127.0.0.1:9")


def refused(*words: object, match: str = "", error: type[EarshotError] = EarshotError) -> None:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(done.exception, error), (done.output, done.exception)
    assert match in str(done.exception)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks come before anything is loaded."""

    def load(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded, or a server asked, before the check")

    monkeypatch.setattr("earshot.client.net.first_look.first_look", load)
    monkeypatch.setattr("earshot.codec.load", load)
    monkeypatch.setattr("earshot.codec.weights.load.load_model", load)


@pytest.fixture
def here(tmp_path: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Goes to a folder with files of a user, which must be as they are afterwards."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "clips/a.wav", "judged/audio/a/reference.wav"):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        soundfile.write(name, np.zeros(640), 24_000)
    save_native(tiny_model.network, Path("m.safetensors"))
    write(Path("r.eshr"), record(tiny_model, []))
    Path("run").mkdir()
    Path("run/model.safetensors").write_bytes(Path("m.safetensors").read_bytes())
    for name in (
        *("t.ecdc", "rows.json", "curve.png", "tonight.txt", "mix.flac", "run/lm.safetensors", "clips/a.ecdc"),
        *("judged/scores.json", "demo/report.json", "demo/heard-by-ada.wav", "ready.txt"),
    ):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("of the user")
    Path("link.wav").symlink_to("a.wav")
    os.link("a.wav", "hard.wav")
    return tmp_path


def kept(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


SOURCES = {
    "call": (*ROOM, "--input", "a.wav", "--output", "a.wav"),
    "call, by a link": (*ROOM, "--input", "a.wav", "--output", "link.wav"),
    "call, by a hard link": (*ROOM, "--input", "a.wav", "--output", "hard.wav"),
    "call, by another way": (*ROOM, "--input", "a.wav", "--output", "clips/../a.wav"),
    "the report of a call": (*ROOM, "--input", "rows.json", "--output", "none", "--report", "rows.json"),
    "the arrivals of a call": (*ROOM, "--lm-model", "ready.txt", "--arrivals", "ready.txt"),
    "two outputs": (*ROOM, "--report", "new.json", "--arrivals", "clips/../new.json"),
    "two outputs of bench": ("bench", "--json", "new.png", "--png", "new.png"),
    "export-model": ("export-model", "run", "run/model.safetensors"),
    "the audio that is judged": ("evaluate", "judged/audio", "--out", "judged", "--save-audio"),
    "serve": ("serve", "--lm-model", "ready.txt", "--ready-file", "ready.txt"),
    "decode": ("decode", "clips/a.ecdc", "clips/a.ecdc"),
    "encode": ("encode", "a.wav", "a.wav"),
}


@pytest.mark.parametrize("force", [False, True], ids=["", "force"])
@pytest.mark.parametrize("words", SOURCES.values(), ids=SOURCES)
@pytest.mark.usefixtures("no_model")
def test_no_command_writes_to_what_it_reads(words: tuple[str, ...], force: bool, here: Path) -> None:
    before = kept(here)
    refused(*words, *(["--force"] if force and words[0] != "serve" else []))
    assert kept(here) == before


def test_the_library_neither(here: Path, tiny_model: Model) -> None:
    before = kept(here)
    for convert in (encode_file, decode_file):
        with pytest.raises(UsageError, match="would be lost"):
            convert(tiny_model, Path("a.wav"), Path("link.wav"))
    assert kept(here) == before


THERE = {
    "encode": ("encode", "a.wav", "t.ecdc"),
    "encode into a folder": ("encode", "a.wav", "clips"),
    "encode a folder": ("encode", "clips", "clips"),
    "decode": ("decode", "t.ecdc", "a.wav"),
    "decode a folder": ("decode", "clips", "clips"),
    "export": ("export", "r.eshr", "--mix", "mix.flac"),
    "export-model": ("export-model", "run", "m.safetensors"),
    "call, what is heard": (*ROOM, "--input", "none", "--output", "a.wav"),
    "call, its report": (*ROOM, "--input", "none", "--output", "none", "--report", "rows.json"),
    "call, its arrivals": (*ROOM, "--input", "none", "--output", "none", "--arrivals", "tonight.txt"),
    "bench, its rows": ("bench", "--json", "rows.json"),
    "bench, its picture": ("bench", "--png", "curve.png"),
    "bench server": ("bench", "server", "--png", "curve.png"),
    "bench page": ("bench", "page", "--json", "rows.json"),
    "evaluate": ("evaluate", "a.wav", "--out", "judged"),
    "demo": ("demo", "--out", "demo"),
    "latency": ("latency", "--out", "demo"),
    "train": ("train", "lite", "clips", "--out", "run"),
    "train-lm": ("train-lm", "default", "clips", "--out", "run"),
}


@pytest.mark.parametrize("words", THERE.values(), ids=THERE)
@pytest.mark.usefixtures("no_model")
def test_what_exists_is_not_replaced_without_being_told(words: tuple[str, ...], here: Path) -> None:
    before = kept(here)
    refused(*words, match="--force replaces", error=UsageError)
    assert kept(here) == before


@pytest.mark.parametrize(("answer", "goes_on"), [("y", True), ("YES", True), ("", False), ("n", False), (None, False)])
def test_on_a_terminal_there_is_a_question(
    answer: str | None,
    goes_on: bool,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def reply() -> str:
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", reply)
    if goes_on:
        targets.claim([Path("a.wav"), Path("t.ecdc")])
    else:
        with pytest.raises(UsageError, match="nothing was written"):
            targets.claim([Path("a.wav"), Path("t.ecdc")])
    assert "a.wav and 1 more of these files exist. Replace? [y/N]" in capsys.readouterr().err
    targets.claim([Path("a.wav")], force=True)
    targets.claim([Path("new.wav"), Path("/dev/null")])


def test_a_run_that_is_there_goes_on(here: Path) -> None:
    Path("run/checkpoint.pt").write_bytes(b"")
    targets.claim_run(Path("run"), ["model.safetensors"], force=False)


@pytest.mark.usefixtures("here")
def test_files_of_a_folder_stay_apart(tiny_model: Model) -> None:
    """`a.flac` and `a.wav` become `a.flac.ecdc` and `a.wav.ecdc`, which another file may be too."""
    for name in ("a.flac", "a.wav.flac", "A.aif"):
        soundfile.write(Path("clips") / name, np.zeros(640), 24_000, format="FLAC")
    Path("clips/._a.wav").write_text("what macOS keeps of a.wav")
    done = CliRunner().invoke(app, ["encode", "clips", "coded", "--model", "m.safetensors"])
    assert done.exit_code == 0, done.exception
    made = sorted(file.name for file in Path("coded").iterdir())
    assert made == ["A.aif.ecdc", "a.flac.ecdc", "a.wav-2.ecdc", "a.wav.ecdc"]
    assert not list(Path("coded").glob(".*"))


WRONG = {
    "codes as sound": ("encode", "a.wav", "b.wav"),
    "codes without an ending": ("encode", "a.wav", "b"),
    "sound without a header": ("decode", "t.ecdc", "t.raw"),
    "sound of a format that nobody writes": ("decode", "t.ecdc", "t.voc"),
    "sound as codes": ("decode", "t.ecdc", "u.ecdc"),
    "a call as what a kill would take": (*ROOM, "--input", "none", "--output", "h.mp3"),
    "a call as what is only read": (*ROOM, "--input", "none", "--output", "h.sph"),
    "figures as sound": (*ROOM, "--input", "none", "--output", "none", "--report", "me.wav"),
    "arrivals as sound": (*ROOM, "--input", "none", "--output", "none", "--arrivals", "me.flac"),
    "a mix as a format that no export writes": ("export", "r.eshr", "--mix", "mix.ogg"),
    "figures as a picture": ("bench", "--json", "rows.png"),
    "a picture as figures": ("bench", "--png", "new.json"),
    "a picture of another kind": ("bench", "server", "--png", "curve.bmp"),
    "weights as a pickle": ("export-model", "run", "m.th"),
    "what a server says as sound": ("serve", "--ready-file", "ready.wav"),
    "no folder": ("encode", "a.wav", "nowhere/a.ecdc"),
    "no folder for what is heard": (*ROOM, "--input", "none", "--output", "nowhere/a.wav"),
    "a folder as a file": ("encode", "clips", "t.ecdc"),
    "a device that would be replaced": ("serve", "--ready-file", "/dev/null"),
    "nothing to read": ("encode", "none.wav", "b.ecdc"),
}


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
@pytest.mark.usefixtures("no_model")
def test_a_target_that_contradicts_its_name_is_refused_at_once(words: tuple[str, ...], here: Path) -> None:
    before = kept(here)
    refused(*words)
    assert kept(here) == before


@pytest.mark.parametrize("ending", audio_formats.WRITTEN)
def test_what_is_written_is_what_its_name_says(ending: str, here: Path, tiny_model: Model) -> None:
    """A file of codes and a call make files of each format, which are found in folders and read."""
    encode_file(tiny_model, Path("a.wav"), Path("new.ecdc"))
    decoded, heard = here / f"decoded{ending.upper()}", here / f"heard{ending}"
    decode_file(tiny_model, Path("new.ecdc"), decoded)
    assert soundfile.info(decoded).format == audio_formats.WRITTEN[ending].format
    assert decoded in audio_files(str(here))
    if ending not in audio_formats.LIVE:
        with pytest.raises(AudioError, match="while it is heard"):
            open_sink(str(heard))
        return
    sink = open_sink(str(heard))
    asked: list[int] = []

    def pull(n: int, now_us: int, heard_us: int) -> np.ndarray:
        asked.append(n)
        return np.zeros(n, np.float32)

    sink.start(pull)
    while len(asked) < 3 and sink.error is None:
        pass
    sink.stop()
    assert sink.error is None
    assert soundfile.info(heard).format == audio_formats.WRITTEN[ending].format


def test_a_format_that_this_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundfile.check_format", lambda *_: False)
    with pytest.raises(AudioError, match=r"does not write \.mp3"):
        open_sink("heard.mp3")


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@pytest.mark.parametrize("make", [pipe, lambda _: Path("/dev/null"), lambda _: Path("/dev/full")])
def test_pipes_and_devices_replace_nothing(make: Callable[[Path], Path], tmp_path: Path) -> None:
    targets.claim([make(tmp_path)])
