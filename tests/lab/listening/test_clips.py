"""Folders of sounds: what is served of them, and which are refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from earshot.codec.errors import AudioError, EarshotError, UsageError
from earshot.lab.listening.clips import MAX_SECONDS, find_clips

RATE = 16_000


def write(
    path: Path, samples: int = 4000, rate: int = RATE, gain: float = 0.1, channels: int = 1, subtype: str = "PCM_16"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = gain * np.random.default_rng(0).uniform(-1, 1, (samples, channels))
    noise[0] = gain
    soundfile.write(path, noise, rate, subtype)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for clip in ("a", "b"):
        write(tmp_path / clip / "reference.wav")
        write(tmp_path / clip / "new.wav", gain=0.2)
        write(tmp_path / clip / "old.wav", gain=0.3, subtype="FLOAT")
    (tmp_path / "scores.csv").touch()
    (tmp_path / ".cache").mkdir()
    return tmp_path


def read(data: bytes) -> tuple[NDArray[np.float64], int]:
    pcm, rate = soundfile.read(io.BytesIO(data))
    return pcm, rate


def test_clips_and_systems_are_found(folder: Path) -> None:
    clips = find_clips(folder)
    assert list(clips) == ["a", "b"]
    assert clips["a"].systems == ("new", "old")
    assert find_clips(folder, ("old",))["b"].systems == ("old",)


def test_all_sounds_of_a_clip_look_the_same(folder: Path) -> None:
    clip = find_clips(folder)["a"]
    files = [clip.wav(name) for name in ("reference", "new", "old", "anchor")]
    assert len({len(file) for file in files}) == 1
    assert len({file[:44] for file in files}) == 1
    assert len(set(files)) == 4
    assert [np.abs(read(file)[0]).max() for file in files[:3]] == pytest.approx([0.1, 0.2, 0.3], abs=1e-3)


def test_a_sound_that_would_clip_turns_all_of_its_clip_down(folder: Path) -> None:
    write(folder / "a" / "old.wav", gain=2.0, subtype="FLOAT")
    clip = find_clips(folder)["a"]
    levels = [np.abs(read(clip.wav(name))[0]).max() for name in ("reference", "new", "old")]
    assert levels == pytest.approx([0.05, 0.1, 1.0], abs=1e-3)


def test_the_anchor_cannot_clip_either(folder: Path) -> None:
    """A square wave overshoots when its harmonics are taken away."""
    square = np.sign(np.sin(2 * np.pi * 900 * (np.arange(4000) + 0.5) / RATE))
    soundfile.write(folder / "a" / "reference.wav", square, RATE, "FLOAT")
    clip = find_clips(folder)["a"]
    assert clip.gain < 0.95
    assert np.abs(read(clip.wav("anchor"))[0]).max() == pytest.approx(1, abs=1e-3)


def test_silence_is_a_sound(folder: Path) -> None:
    for file in (folder / "a").glob("*.wav"):
        soundfile.write(file, np.zeros(4000), RATE)
    assert not read(find_clips(folder)["a"].wav("anchor"))[0].any()


def refuse(folder: Path, kind: type[EarshotError], said: str, systems: tuple[str, ...] = ()) -> None:
    with pytest.raises(kind, match=said):
        find_clips(folder, systems)


def test_no_folder(tmp_path: Path) -> None:
    refuse(tmp_path / "none", UsageError, "there is no folder")


def test_no_trials(tmp_path: Path) -> None:
    refuse(tmp_path, UsageError, "no trials")


def test_no_systems(tmp_path: Path) -> None:
    write(tmp_path / "a" / "reference.wav")
    refuse(tmp_path, UsageError, "no systems")


def test_a_clip_without_reference_or_system(folder: Path) -> None:
    (folder / "b" / "new.wav").unlink()
    refuse(folder, UsageError, r"b lacks new\.wav")
    assert list(find_clips(folder, ("old",))) == ["a", "b"]
    (folder / "a" / "reference.wav").unlink()
    refuse(folder, UsageError, r"a lacks reference\.wav")


def test_a_system_that_nobody_has(folder: Path) -> None:
    refuse(folder, UsageError, "no clip has a system older; there are: new, old", ("older",))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"samples": 4001}, "is 4001 samples long, its reference 4000"),
        ({"rate": 24_000}, "has 24000 samples a second, its reference 16000"),
        ({"channels": 2}, "has 2 channels, its reference 1"),
        ({"channels": 3}, "plays up to 2"),
        ({"samples": int(MAX_SECONDS * RATE) + 1}, "longer than 60 s"),
    ],
)
def test_sounds_that_do_not_fit_their_reference(folder: Path, change: dict[str, Any], said: str) -> None:
    write(folder / "b" / "new.wav", **change)
    refuse(folder, UsageError, said)


def test_files_that_are_no_sound(folder: Path) -> None:
    (folder / "b" / "new.wav").write_bytes(b"RIFF but no more")
    refuse(folder, AudioError, r"cannot read .*new\.wav")
    soundfile.write(folder / "b" / "new.wav", np.zeros(0), RATE)
    refuse(folder, AudioError, "is empty")
    soundfile.write(folder / "b" / "new.wav", np.full(4000, np.nan), RATE, "FLOAT")
    refuse(folder, AudioError, "no numbers")
