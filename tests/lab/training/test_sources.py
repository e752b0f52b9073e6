"""Sources: how they are written, which files they name, and reading one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from pydantic import TypeAdapter, ValidationError

from earshot.codec.errors import UsageError
from earshot.lab.training.sources import UNREADABLE, Source, read_channels


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("voices", Source("voices")),
        ("voices=0.5", Source("voices", 0.5)),
        ("music:songs", Source("songs", 1, "music")),
        ("noise:./street/*.ogg=2", Source("./street/*.ogg", 2, "noise")),
        ("C:/voices=3", Source("C:/voices", 3)),
        ("./music:live", Source("./music:live")),
        ("rate=48000/voices", Source("rate=48000/voices")),
        ("other:rate=48000/birds=1e-1", Source("rate=48000/birds", 0.1, "other")),
    ],
)
def test_written_on_the_command_line(text: str, expected: Source) -> None:
    assert Source.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("voices=often", "must be a number"),
        ("voices=0", "must be above zero"),
        ("voices=-1", "must be above zero"),
        ("voices=nan", "must be above zero"),
        ("voices=inf", "must be above zero"),
        ("voices=", "must be a number"),
        ("muisc:songs", "'muisc' is no kind of audio; there are speech, music, noise, other"),
        ("", "names no folder"),
        ("music:", "names no folder"),
        ("=2", "names no folder"),
    ],
)
def test_written_wrongly(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Source.parse(text)


def test_as_a_table() -> None:
    adapter = TypeAdapter(Source)
    assert adapter.validate_python({"pattern": "a", "kind": "noise"}) == Source("a", 1, "noise")
    for bad in ({}, {"pattern": "a", "wieght": 2}, {"pattern": "a", "weight": 0}, {"pattern": "a", "kind": "sound"}):
        with pytest.raises(ValidationError):
            adapter.validate_python(bad)
    with pytest.raises(AttributeError):
        Source("a").weight = 2  # type: ignore[misc]


def test_files_of_folders_files_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.wav", "a.FLAC", "deep/er/c.opus", "d.mp3", "e.txt", "f.raw", "g.held.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(pattern: str, *exclude: str) -> list[str]:
        return [file.name for file in Source(pattern).files(exclude)]

    assert names(str(tmp_path)) == ["a.FLAC", "b.wav", "d.mp3", "c.opus", "g.held.wav"]
    assert names(str(tmp_path), "*.held.wav", "d.*") == ["a.FLAC", "b.wav", "c.opus"]
    assert names(f"{tmp_path}/*.wav") == ["b.wav", "g.held.wav"]
    assert names(f"{tmp_path}/b.wav") == ["b.wav"]
    for nothing in ("*.txt", "nothing"):
        with pytest.raises(UsageError, match="no audio at"):
            names(f"{tmp_path}/{nothing}")
    monkeypatch.chdir(tmp_path)
    assert names("deep") == names("**/c.*") == ["c.opus"]


def test_reading_resamples_and_mixes_down(tmp_path: Path) -> None:
    time = np.arange(16_000) / 16_000
    left, right = np.sin(2 * np.pi * 440 * time) * 0.5, np.sin(2 * np.pi * 880 * time) * 0.25
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "four.wav", np.stack([left, right, left, right], axis=1), 16_000, subtype="FLOAT")
    at_24k = np.arange(24_000) / 24_000
    expected = np.stack([np.sin(2 * np.pi * 440 * at_24k) * 0.5, np.sin(2 * np.pi * 880 * at_24k) * 0.25])
    middle = slice(1000, 23_000)
    both = read_channels(tmp_path / "two.wav", 24_000, 2)
    assert (both.shape, both.dtype) == ((24_000, 2), np.float32)
    np.testing.assert_allclose(both.T[:, middle], expected[:, middle], atol=1e-3)
    for name in ("two.wav", "four.wav"):
        mono = read_channels(tmp_path / name, 24_000, 1)
        assert mono.shape == (24_000, 1)
        np.testing.assert_allclose(mono[middle, 0], expected.mean(axis=0)[middle], atol=1e-3)
    assert read_channels(tmp_path / "four.wav", 24_000, 2).shape == (24_000, 1)


def test_impossible_samples_become_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.5, np.nan, np.inf, -0.5]), 24_000, subtype="FLOAT")
    np.testing.assert_array_equal(read_channels(tmp_path / "a.wav", 24_000, 1)[:, 0], np.float32([0.5, 0, 0, -0.5]))


def test_damaged_files_raise_what_is_documented(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "whole.flac", np.zeros(4000), 24_000)
    data = (tmp_path / "whole.flac").read_bytes()
    for bad in (b"", b"RIFF", data[:20], b"x" * 4000):
        (tmp_path / "bad.flac").write_bytes(bad)
        with pytest.raises(UNREADABLE):
            read_channels(tmp_path / "bad.flac", 24_000, 1)
    with pytest.raises(UNREADABLE):
        read_channels(tmp_path / "gone.flac", 24_000, 1)
