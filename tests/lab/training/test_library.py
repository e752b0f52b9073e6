"""The audio of all sources, in memory and on disk: the same crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from earshot.codec.errors import UsageError
from earshot.codec.pcm import Pcm
from earshot.lab.training.library import Clip, Library, active_level, is_narrow
from earshot.lab.training.sources import UNREADABLE, Source

RATE = 24_000


def hiss(count: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(count)


def open_library(folder: Path, memory: float = 2**30, channels: int = 1) -> Library:
    return Library([Source(str(folder))], [], RATE, channels, memory, progress=False)


@pytest.mark.parametrize(("rate", "tolerance"), [(RATE, 2e-4), (16_000, 2e-3), (48_000, 2e-3)])
@pytest.mark.parametrize("channels", [1, 2])
def test_from_disk_and_from_memory_come_the_same_crops(
    tmp_path: Path, speech: Pcm, rate: int, tolerance: float, channels: int
) -> None:
    """Small differences: what is in memory has 16 bits, and a segment is resampled from a whole
    sample on."""
    pcm = speech[:60_000] / np.abs(speech[:60_000]).max()
    smooth = np.convolve(pcm, np.hanning(48) / np.hanning(48).sum(), mode="same")
    soundfile.write(tmp_path / "a.flac", np.stack([smooth, -0.5 * smooth], axis=1), rate)
    held, disk = open_library(tmp_path, channels=channels), open_library(tmp_path, 1000, channels)
    assert held.hours_in_memory == held.hours == pytest.approx(60_000 / rate / 3600, rel=1e-4)
    assert disk.hours == pytest.approx(held.hours, rel=1e-4)
    assert disk.hours_in_memory == 0
    for position in (0, 0.013, 0.5, 0.77, 0.9999):
        a, b = (one.crop(0, one.clip(0, 0.5), position, 4800, before=1200) for one in (held, disk))
        assert a.shape == b.shape == (channels, 6000)
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_allclose(a, b, atol=tolerance)
    assert disk.level(0, disk.clip(0, 0)) == pytest.approx(held.level(0, held.clip(0, 0)), rel=0.02)


@pytest.mark.parametrize(
    ("name", "subtype", "rate"),
    [("a.ogg", "VORBIS", 44_100), ("a.opus", "OPUS", 48_000), ("a.mp3", "MPEG_LAYER_III", 44_100)],
)
def test_lossy_files_are_sought_to_the_place(tmp_path: Path, speech: Pcm, name: str, subtype: str, rate: int) -> None:
    pcm = soxr.resample(speech[: 10 * RATE], RATE, rate)
    soundfile.write(tmp_path / name, pcm, rate, subtype=subtype, format=None if name != "a.opus" else "OGG")
    held, disk = open_library(tmp_path), open_library(tmp_path, 0)
    for position in (0.1, 0.5, 0.9):
        a, b = (one.crop(0, one.clip(0, 0), position, 2 * RATE)[0] for one in (held, disk))
        assert float(np.corrcoef(a, b)[0, 1]) > 0.99


def test_the_smallest_sources_stay_in_memory(tmp_path: Path) -> None:
    for name, seconds in (("long", 3), ("short", 1), ("middle", 2)):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "a.wav", np.full(seconds * RATE, 0.1), RATE)
    sources = [Source(str(tmp_path / name)) for name in ("long", "short", "middle")]
    library = Library(sources, [], RATE, 1, 3 * RATE * 2, progress=False)
    assert library.hours * 3600 == pytest.approx(6)
    assert library.hours_in_memory * 3600 == pytest.approx(3)
    assert [shelf.memory is not None for shelf in library.shelves] == [False, True, True]


def test_every_second_of_a_source_is_as_likely(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.1), RATE)
    soundfile.write(tmp_path / "b.wav", np.full(3 * RATE, 0.1), RATE)
    library = open_library(tmp_path)
    names = [library.clip(0, share).file.name for share in (0, 0.2499, 0.2501, 0.9999, 1.0)]
    assert names == ["a.wav", "a.wav", "b.wav", "b.wav", "b.wav"]


@pytest.mark.parametrize("memory", [2**30, 0])
def test_crops_lie_where_they_are_asked_for(tmp_path: Path, memory: float) -> None:
    ramp = np.arange(1000) / 1000
    soundfile.write(tmp_path / "a.wav", ramp, RATE, subtype="FLOAT")
    library = open_library(tmp_path, memory)
    clip = library.clip(0, 0)

    def crop(position: float, length: int, before: int = 0) -> list[int]:
        return [round(1000 * float(x)) for x in library.crop(0, clip, position, length, before)[0]]

    assert crop(0, 4) == [0, 1, 2, 3]
    assert crop(0.9999, 4) == [996, 997, 998, 999]
    assert crop(0.5, 4, before=2) == [496, 497, 498, 499, 500, 501]
    assert crop(0, 2, before=3) == [0, 0, 0, 0, 1]
    assert crop(0, 1002) == [*range(1000), 0, 0]
    assert crop(0.5, 1002) == [0, *range(1000), 0]
    assert crop(0.9999, 1002, before=1) == [0, 0, 0, *range(1000)]
    starts = [crop(position, 999)[0] for position in np.linspace(0, 1, 100, endpoint=False)]
    assert starts.count(0) == starts.count(1) == 50


def test_channels(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full((100, 1), 0.5), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", np.tile([0.5, 0.25], (100, 1)), RATE, subtype="FLOAT")
    one, two = open_library(tmp_path, channels=1), open_library(tmp_path, channels=2)

    def mean(library: Library, share: float) -> list[float]:
        return [float(x) for x in library.crop(0, library.clip(0, share), 0, 100).mean(axis=1)]

    assert mean(one, 0.1) == pytest.approx([0.5], abs=1e-4)
    assert mean(one, 0.9) == pytest.approx([0.375], abs=1e-4)
    assert mean(two, 0.1) == pytest.approx([0.5, 0.5], abs=1e-4)
    assert mean(two, 0.9) == pytest.approx([0.5, 0.25], abs=1e-4)


def test_pauses_do_not_count_for_the_level() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 400 * np.arange(RATE) / RATE).astype(np.float32)[:, None]
    quiet = np.concatenate([tone, 0.001 * tone, np.zeros_like(tone)])
    assert active_level(tone, RATE) == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)
    assert active_level(quiet, RATE) == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)
    assert active_level(np.concatenate([tone, 0.1 * tone]), RATE) == pytest.approx(0.5 * np.sqrt(1.01 / 4), rel=1e-3)
    assert active_level(np.zeros((10, 1), np.float32), RATE) == 0


def test_a_long_file_on_disk_is_not_read_in_full_for_its_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time = np.arange(60 * 8000) / 8000
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 400 * time), 8000)
    library = open_library(tmp_path, 0)
    reads = []
    read = Library._read

    def counted(self: Library, shelf: object, clip: Clip, first: int, last: int) -> Pcm:
        reads.append(last - first)
        return read(self, shelf, clip, first, last)  # type: ignore[arg-type]

    monkeypatch.setattr(Library, "_read", counted)
    clip = library.clip(0, 0)
    assert library.level(0, clip) == pytest.approx((0.5 / np.sqrt(2), 0.5), rel=0.01)
    assert sum(reads) == 32 * RATE
    library.level(0, clip)
    assert sum(reads) == 32 * RATE


def test_damaged_files_are_left_out_and_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", np.full(RATE, 0.1), RATE)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "cut.flac", np.random.default_rng(0).standard_normal(RATE) * 0.1, RATE)
    (tmp_path / "cut.flac").write_bytes((tmp_path / "cut.flac").read_bytes()[:9000])
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "hours.wav", np.zeros(4000), 1)  # it would be 67 minutes
    library = open_library(tmp_path)
    assert {"bad.wav", "empty.wav", "hours.wav"} <= {file.name for file in library.unreadable}
    kept = {clip.file.name for clip in library.shelves[0].clips}
    assert "good.wav" in kept
    assert kept.isdisjoint(file.name for file in library.unreadable)
    (tmp_path / "good.wav").unlink()
    (tmp_path / "cut.flac").unlink()
    for memory in (2**30, 0):
        with pytest.raises(UsageError, match="none of the audio files under"):
            open_library(tmp_path, memory)


def test_a_file_on_disk_may_disappear(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.1), RATE)
    library = open_library(tmp_path, 0)
    clip = library.clip(0, 0)
    soundfile.write(tmp_path / "a.wav", np.full(1000, 0.1), RATE)
    with pytest.raises(EOFError, match="shorter than it says"):
        library.crop(0, clip, 0, 4800)
    with pytest.raises(UNREADABLE):
        library.crop(0, clip, 0.5, 4800)
    (tmp_path / "a.wav").unlink()
    with pytest.raises(UNREADABLE):
        library.crop(0, clip, 0.5, 4800)


def test_narrow_recordings_are_weighed(tmp_path: Path) -> None:
    for name, rate in (("wide", 24_000), ("narrow", 16_000), ("phone", 8000)):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "a.wav", hiss(rate), rate)
    sources = [Source(f"{tmp_path}/wide", 3), Source(f"{tmp_path}/narrow", 1), Source(f"{tmp_path}/phone", 5, "noise")]
    assert Library(sources, [], RATE, 1, 2**30, progress=False).narrow_share() == pytest.approx(1 / 4)
    assert open_library(tmp_path).narrow_share() == pytest.approx(2 / 3, rel=1e-3)


def test_narrow_recordings_are_heard_whatever_their_files_say(tmp_path: Path, speech: Pcm) -> None:
    resampled = soxr.resample(soxr.resample(speech[: 4 * RATE], RATE, 16_000), 16_000, RATE)
    assert is_narrow(resampled[:, None], RATE)
    assert not is_narrow(speech[: 4 * RATE, None], RATE)
    assert not is_narrow(resampled[:1000, None], RATE)
    assert not is_narrow(resampled[:, None], 16_000)
    soundfile.write(tmp_path / "a.wav", resampled, RATE)
    assert open_library(tmp_path).narrow_share() == 1
