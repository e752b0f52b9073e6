"""What other machines bring: line ends, shadows of files, names, homes, and no network."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from earshot.cli import app
from earshot.client.audio.choice import open_sink, open_source
from earshot.client.core.replay import ArrivalRecorder, parse_trace
from earshot.client.ui import keyboard
from earshot.codec import homes
from earshot.codec.audio_files import audio_files, read_audio
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.weights.download import cache_folder
from earshot.codec.weights.load import check_bundled, load_model, save_native
from earshot.lab.evaluation.clips import find_clips
from earshot.lab.listening.clips import find_clips as find_trials
from earshot.lab.training.settings import read_recipe
from earshot.lab.training.sources import Source
from earshot.server.access.keys import default_key_file, read_key

ROOT = Path(__file__).parents[2]


def git(*words: str, folder: Path = ROOT) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"git: {done.stderr}")
    return done.stdout


def test_a_clone_has_lf_whatever_git_is_told() -> None:
    """As git for Windows is set up (core.autocrlf), but for what .gitattributes says."""
    names = git("ls-files").split("\n")[:-1]
    said = git("check-attr", "text", "eol", "--", *names).split("\n")[:-1]
    attributes = {tuple(line.rsplit(": ", 2)[:2]): line.rsplit(": ", 2)[2] for line in said}
    for name in names:
        text, eol = attributes[name, "text"], attributes[name, "eol"]
        if (ROOT / name).is_file() and b"\0" in (ROOT / name).read_bytes():
            assert text in ("unset", "auto"), name
        else:
            assert text == "auto", name
            assert eol == "lf", name
            assert b"\r\n" not in (ROOT / name).read_bytes() or name.endswith((".svg", ".png")), name


def transcript(folder: Path) -> None:
    soundfile.write(folder / "en.wav", np.zeros(99), 24_000)
    (folder / "en.txt").write_bytes(b"hello world\r\n")
    assert [clip.transcript for clip in find_clips([str(folder)])] == ["hello world"]


def manifest(folder: Path) -> None:
    soundfile.write(folder / "a.wav", np.zeros(99), 24_000)
    (folder / "MANIFEST.tsv").write_bytes(b"path\ttranscript\tlanguage\r\na.wav\thello\ten\r\n")
    (clip,) = find_clips([str(folder)])
    assert (clip.transcript, clip.english) == ("hello", True)


def recipe(folder: Path) -> None:
    text = (ROOT / "lab" / "training" / "presets" / "lite.toml").read_text("utf-8")
    (folder / "mine.toml").write_bytes(text.replace("\n", "\r\n").encode())
    data = {"sources": ["x"]}
    assert read_recipe(str(folder / "mine.toml"), (), data).schedule == read_recipe("lite", (), data).schedule


def arrivals(folder: Path) -> None:
    with (folder / "t.txt").open("w", encoding="utf-8", newline="\r\n") as file:
        recorder = ArrivalRecorder(24_000, 320, file.write)
        recorder.packet(1, 0, 0, 1, 0)
    assert b"\r\n" in (folder / "t.txt").read_bytes()
    assert parse_trace((folder / "t.txt").read_text("utf-8")).sources


def key(folder: Path) -> None:
    secret = "0123456789abcdef0123456789abcdef-0123456789"
    (folder / "lf").write_bytes(secret.encode() + b"\n")
    (folder / "crlf").write_bytes(secret.encode() + b"\r\n")
    assert read_key(folder / "lf") == read_key(folder / "crlf")


def checksums(folder: Path) -> None:
    import hashlib

    (folder / "w.safetensors").write_bytes(b"weights")
    (folder / "SHA256SUMS").write_bytes(hashlib.sha256(b"weights").hexdigest().encode() + b"  w.safetensors\r\n")
    check_bundled(folder / "w.safetensors")


@pytest.mark.parametrize("read", [transcript, manifest, recipe, arrivals, key, checksums])
def test_line_ends_of_windows_are_line_ends(read: Callable[[Path], None], tmp_path: Path) -> None:
    read(tmp_path)


NAMES = [
    "two words",
    "Artist [live]",
    "[abc]",
    "Zoë Müller",
    unicodedata.normalize("NFD", "Zoë"),
    "a'b\"c",
    "100 % {x}",
    "-x",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_folders_and_files(
    name: str, tmp_path: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    file, shadow = folder / f"{name}.wav", folder / f"._{name}.wav"
    soundfile.write(file, np.full(4800, 0.1), 24_000)
    shadow.write_bytes(b"\x00\x05\x16\x07 what macOS keeps")
    assert audio_files(str(folder)) == audio_files(str(file)) == audio_files(str(folder / "*.wav")) == [file]
    assert Source.parse(f"{folder}=2").files() == [file]
    assert [clip.file for clip in find_clips([str(folder)])] == [file]
    assert len(read_audio(file, 24_000)) == 4800
    open_source(str(file)).stop()
    open_sink(str(folder / f"heard {name}.wav"))
    save_native(tiny_model.network, folder / "m.safetensors")
    for words in (("encode", folder, tmp_path / "coded"), ("decode", tmp_path / "coded", tmp_path / "out")):
        done = CliRunner().invoke(app, [*map(str, words), "--model", str(folder / "m.safetensors")])
        assert done.exit_code == 0, (done.output, done.exception)
    assert (tmp_path / "out" / f"{name}.wav").is_file()


def test_shadows_are_no_systems_of_a_listening_test(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("reference", "opus"):
        soundfile.write(tmp_path / "a" / f"{name}.wav", np.full(2400, 0.1), 24_000)
        (tmp_path / "a" / f"._{name}.wav").write_bytes(b"no sound")
    assert find_trials(tmp_path)["a"].systems == ("opus",)


def no_home(*_: object) -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize(
    "ask",
    [
        cache_folder,
        default_key_file,
        lambda: load_model("~/m"),
        lambda: audio_files("~/x"),
        lambda: Source.parse("~/x").files(),
    ],
    ids=["weights", "key", "model", "audio", "training"],
)
def test_a_user_without_a_home_is_told_so(ask: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(UsageError, match="no home folder"):
        ask()


def test_a_home_is_a_home() -> None:
    assert homes.home() == Path.home()
    with pytest.raises(UsageError, match="no such user"):
        homes.expanded("~nobody-of-this-name/x")


def test_a_home_that_cannot_be_written_is_no_noise(tmp_path: Path) -> None:
    """A file stands for it: root may write everywhere."""
    (tmp_path / "home").write_text("no folder")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL"))}
    done = subprocess.run(
        [sys.executable, "-c", "import earshot.lab.pictures as p; p.save(p.new_figure(1, 1), 'x.png')"],
        cwd=tmp_path,
        env=environment | {"HOME": str(tmp_path / "home"), "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_termios_a_call_has_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyboard, "termios", None)
    with keyboard.keys(lambda _: pytest.fail("a key")) as live:
        assert not live


def part_of_the_installer(name: str) -> str:
    """Returns one of its functions."""
    script = (ROOT / "scripts" / "install").read_text("utf-8")
    begin = script.index(f"\n{name}() {{")
    return script[begin : script.index("\n}\n", begin) + 3]


def test_without_a_network_the_installer_asks_nobody() -> None:
    """PIP_NO_INDEX is what tells pip; Debian's packages are named and not fetched."""
    fake = 'debian="a b"\ndpkg() { return 1; }\nid() { echo 0; }\nstep() { echo "STEP $*"; }\n'
    for offline, expected in (("1", "there is no network: a b"), ("", "STEP reading Debian's package lists")):
        done = subprocess.run(
            ["sh", "-euc", fake + part_of_the_installer("debian_packages") + "debian_packages"],
            env=os.environ | {"PIP_NO_INDEX": offline},
            capture_output=True,
            text=True,
            check=True,
        )
        assert expected in done.stdout
        assert ("STEP" in done.stdout) == (not offline)


@pytest.mark.parametrize(
    ("offline", "npm", "said"),
    [
        ("1", "fail", "PIP_NO_INDEX says that there is no network"),
        ("", "fail", "npm did not bring TypeScript (npm error no network)"),
        ("", "work", "installing TypeScript"),
    ],
)
def test_typescript_is_installed_where_it_can_be(offline: str, npm: str, said: str, tmp_path: Path) -> None:
    """Without it the installer goes on: only the check of the page's types needs it."""
    where = '"$3/node_modules/typescript'
    work = f'mkdir -p {where}"; echo \'  "version": "7.0.2",\' >{where}/package.json"'
    fake = f"log={tmp_path}/log\nnpm() {{ {work if npm == 'work' else 'echo npm error no network; return 1'}; }}\n"
    command = fake + part_of_the_installer("typescript") + "typescript; echo and on; typescript"
    done = subprocess.run(
        ["sh", "-euc", command],
        cwd=tmp_path,
        env=os.environ | {"PIP_NO_INDEX": offline},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = done.stdout.split("and on\n")
    assert said in before
    assert (after == "") == (npm == "work")  # what is there is not fetched again
