"""Finds audio files and reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.codec.audio_files import audio_files, read_audio
from earshot.codec.errors import AudioError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    for name in ("b.wav", "a.flac", "below/c.ogg"):
        soundfile.write(tmp_path / name, np.zeros(160), 16_000)
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "folder.wav").mkdir()
    return tmp_path


def test_a_folder_gives_all_audio_below_it_sorted(folder: Path) -> None:
    assert audio_files(str(folder)) == [folder / "a.flac", folder / "b.wav", folder / "below" / "c.ogg"]


def test_globs_and_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert audio_files(str(folder / "*.flac")) == [folder / "a.flac"]
    assert audio_files(str(folder / "**" / "*")) == audio_files(str(folder))
    assert audio_files(str(folder / "a.txt")) == [folder / "a.txt"], "one that is named is taken with any suffix"
    monkeypatch.chdir(folder)
    assert audio_files("below/*") == [Path("below/c.ogg")]


@pytest.mark.parametrize("pattern", ["nowhere", "*.mp3", "below/nothing*"])
def test_no_audio_is_said(folder: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="there is no audio at"):
        audio_files(str(folder / pattern))


def test_reading_mixes_and_resamples(tmp_path: Path) -> None:
    t = np.arange(32_000) / 16_000
    left, right = 0.4 * np.sin(2 * np.pi * 440 * t), 0.2 * np.sin(2 * np.pi * 440 * t)
    soundfile.write(tmp_path / "x.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    pcm = read_audio(tmp_path / "x.wav", 24_000)
    assert pcm.dtype == np.float32
    assert pcm.shape == (48_000,)
    wanted = 0.3 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 24_000)
    assert np.abs(pcm - wanted)[1000:-1000].max() < 1e-3


def test_reading_the_beginning(tmp_path: Path) -> None:
    ramp = np.arange(16_000, dtype=np.float32) / 16_000
    soundfile.write(tmp_path / "x.wav", ramp, 16_000, subtype="FLOAT")
    assert np.array_equal(read_audio(tmp_path / "x.wav", 16_000, seconds=0.25), ramp[:4_000])
    assert np.array_equal(read_audio(tmp_path / "x.wav", 16_000, seconds=2), ramp)


@pytest.mark.parametrize("data", [b"", b"RIFF", b"no audio at all" * 100])
def test_what_is_no_audio_is_said(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.wav").write_bytes(data)
    with pytest.raises(AudioError, match="cannot be read as audio" if data else "holds no sound: it is empty"):
        read_audio(tmp_path / "x.wav", 24_000)
    with pytest.raises(AudioError, match="cannot be read as audio"):
        read_audio(tmp_path / "missing.wav", 24_000)
