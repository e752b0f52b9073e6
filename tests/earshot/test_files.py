"""`earshot encode`, `decode` and `info`: files, folders, and what is said when something is
wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from earshot.cli import app
from earshot.codec.errors import AudioError, EarshotError, UsageError
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from earshot.codec.weights.load import save_native
from earshot.commands import files


def run(*words: object) -> Result:
    """Raises what the command raises, as `earshot.main` gets it."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps long paths in one line."""
    monkeypatch.setattr(files.console, "width", 400)


@pytest.fixture
def model(tmp_path: Path, tiny_model: Model) -> Path:
    save_native(tiny_model.network, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def test_a_file(tmp_path: Path, speech: Pcm, model: Path, tiny_model: Model) -> None:
    soundfile.write(tmp_path / "in.wav", speech[:48_000], 24_000)
    said = run("encode", tmp_path / "in.wav", tmp_path / "in.ecdc", "--kbps", 1.5, "--model", model).output
    assert "2.0 s at 1.5 kbps" in said
    said = run("info", tmp_path / "in.ecdc").output
    for word in ("earshot:tiny", tiny_model.digest, "2.0 s", "1.5 kbps", "plain"):
        assert word in said
    assert "2.0 s" in run("decode", tmp_path / "in.ecdc", tmp_path / "out.flac", "--model", model).output
    assert soundfile.info(tmp_path / "out.flac").frames == 48_000


def test_a_folder(tmp_path: Path, speech: Pcm, model: Path) -> None:
    """A file that fails is named, and the others are done; equal names stay apart."""
    (tmp_path / "in" / "more").mkdir(parents=True)
    for name in ("a.wav", "a.flac", "more/b.wav"):
        soundfile.write(tmp_path / "in" / name, speech[:9_000], 24_000)
    (tmp_path / "in" / "bad.wav").write_text("not audio")
    with pytest.raises(UsageError, match="1 of 4 files"):
        run("encode", tmp_path / "in", tmp_path / "coded", "--model", model)
    made = sorted(str(file.relative_to(tmp_path / "coded")) for file in (tmp_path / "coded").rglob("*.ecdc"))
    assert made == ["a.flac.ecdc", "a.wav.ecdc", "more/b.ecdc"]
    run("decode", tmp_path / "coded", tmp_path / "out", "--model", model)
    heard = sorted(str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.wav"))
    assert heard == ["a.flac.wav", "a.wav.wav", "more/b.wav"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="nothing to do"):
        run("decode", tmp_path / "empty", tmp_path / "out", "--model", model)


def test_the_language_model_of_the_default(tmp_path: Path, speech: Pcm) -> None:
    """The model comes with Earshot, makes files smaller, and the decoder finds it by itself."""
    soundfile.write(tmp_path / "in.wav", speech[:96_000], 24_000)
    run("encode", tmp_path / "in.wav", tmp_path / "plain.ecdc", "--kbps", 3)
    run("encode", tmp_path / "in.wav", tmp_path / "lm.ecdc", "--kbps", 3, "--lm")
    assert (tmp_path / "lm.ecdc").stat().st_size < 0.85 * (tmp_path / "plain.ecdc").stat().st_size
    assert "integer language model" in run("info", tmp_path / "lm.ecdc").output
    for name in ("plain", "lm"):
        run("decode", tmp_path / f"{name}.ecdc", tmp_path / f"{name}.wav")
    heard = [soundfile.read(tmp_path / f"{name}.wav")[0] for name in ("plain", "lm")]
    np.testing.assert_array_equal(*heard)


def test_damage_is_an_error_and_what_was_there_is_kept(tmp_path: Path, speech: Pcm, model: Path) -> None:
    soundfile.write(tmp_path / "in.wav", speech[:48_000], 24_000)
    coded, out = tmp_path / "in.ecdc", tmp_path / "out.wav"
    run("encode", tmp_path / "in.wav", coded, "--kbps", 1.5, "--model", model)
    coded.write_bytes(coded.read_bytes()[:-100])
    with pytest.raises(EarshotError, match=r"the file ends too soon. The first 1\.5 of 2\.0 s are in .*out\.wav"):
        run("decode", coded, out, "--model", model)
    assert soundfile.info(out).frames == 320 * 110
    with pytest.raises(AudioError, match="no file of codes"):
        run("info", out)


def test_brackets_in_paths_are_no_markup(tmp_path: Path, speech: Pcm, model: Path) -> None:
    folder = tmp_path / "take [live]"
    folder.mkdir()
    soundfile.write(folder / "a[bold].wav", speech[:12_000], 24_000)
    (folder / "b[x].wav").write_bytes(b"no audio")
    one = tmp_path / "[" / "x].ecdc"
    one.parent.mkdir()
    said = run("encode", folder / "a[bold].wav", one, "--model", model).output
    assert "[/x].ecdc: " in said
    out = tmp_path / "out [/x]"
    with pytest.raises(UsageError, match="1 of 2"):
        run("encode", folder, out, "--model", model)
