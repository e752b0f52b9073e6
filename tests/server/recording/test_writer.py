"""The thread that writes recordings, on real files, and on disks that are full or stand still."""

from __future__ import annotations

import errno
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from earshot.codec.config import LITE_24KHZ
from earshot.recording.description import describe, read_items
from earshot.recording.format import Event, Header, Spoken
from earshot.server.core.recording_buffer import Batch, RecordingBuffer
from earshot.server.recording import writer as module
from earshot.server.recording.writer import RecordingFile, Writer
from earshot.server.settings import Settings
from tests.peers import tiny_model
from tests.recordings import header, packets

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def head() -> Header:
    return header(tiny_model())


@contextmanager
def writing(folder: Path, write: Callable[[int, memoryview], int] = os.write, **settings: Any) -> Iterator[Writer]:
    writer = Writer(folder, Settings(**settings), write)
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()


def batch(frames: int = 50, seed: int = 0) -> Batch:
    buffer = RecordingBuffer(LITE_24KHZ, 0)
    for packet in packets(np.random.default_rng(seed).integers(0, 1024, (8, frames))):
        buffer.add(1, packet, 1_000_000)
    taken = buffer.take(1_000_000)
    assert taken is not None
    return taken


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


END = Event(type="ended", at=20_000, reason="enough")


def test_what_is_put_is_on_disk_and_private(tmp_path: Path, head: Header) -> None:
    with writing(tmp_path) as writer:
        file = RecordingFile("den", head, lambda reason: None)
        for seed in range(5):
            assert writer.put(file, batch(seed=seed))
        writer.end(file, END)
        until(lambda: file.closed)
    (path,) = tmp_path.iterdir()
    assert path.name == "den.eshr"
    assert path.stat().st_mode & 0o777 == 0o600
    found = describe(path)
    assert (found.speakers[1].frames, found.ended, found.damage_count) == (250, "enough", 0)
    assert found.size == writer.bytes_written


def test_a_recording_in_which_nothing_happened_has_no_file(tmp_path: Path, head: Header) -> None:
    with writing(tmp_path) as writer:
        file = RecordingFile("den", head, lambda reason: None)
        writer.end(file, END)
        until(lambda: file.closed)
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path: Path, head: Header) -> None:
    (tmp_path / "den.eshr").write_text("kept")
    with writing(tmp_path) as writer:
        for _ in range(2):
            file = RecordingFile("den", head, lambda reason: None)
            writer.put(file, batch())
            writer.end(file, END)
            until(lambda file=file: file.closed)
    assert (tmp_path / "den.eshr").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["den-2.eshr", "den-3.eshr", "den.eshr"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"record_max_mb": 0.003}, "as large as"), ({"record_folder_mb": 0.003}, "keeps no more recordings")],
)
def test_a_limit_ends_a_recording_that_stays_whole(
    tmp_path: Path, head: Header, settings: dict[str, float], said: str
) -> None:
    reasons: list[str] = []
    with writing(tmp_path, **settings) as writer:
        file = RecordingFile("den", head, reasons.append)
        for seed in range(20):
            writer.put(file, batch(seed=seed))
        until(lambda: file.closed)
    assert len(reasons) == 1
    assert said in reasons[0]
    (path,) = tmp_path.iterdir()
    assert 2000 < path.stat().st_size <= 3100
    found = describe(path)
    assert found.damage_count == 0
    assert found.ended == reasons[0]
    with writing(tmp_path, **settings) as writer:
        full = RecordingFile("other", head, reasons.append)
        writer.put(full, batch(frames=900))
        until(lambda: full.closed)
    assert len(reasons) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["den.eshr"]


def test_a_full_disk_ends_one_recording_and_leaves_it_whole(tmp_path: Path, head: Header) -> None:
    """The disk takes 3000 bytes of the first file, the last of them half of a record."""
    taken: dict[int, int] = {}
    reasons: dict[str, list[str]] = {"full": [], "fine": []}
    full_handle: list[int] = []

    def write(handle: int, data: memoryview) -> int:
        full_handle.append(handle)
        if handle != full_handle[0]:
            return os.write(handle, data)
        room = 3000 - taken.get(handle, 0)
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(handle, data[:room])
        taken[handle] = taken.get(handle, 0) + written
        return written

    with writing(tmp_path, write) as writer:
        files = {name: RecordingFile(name, head, reasons[name].append) for name in reasons}
        for seed in range(20):
            for file in files.values():
                writer.put(file, batch(seed=seed))
        writer.end(files["fine"], END)
        until(lambda: all(file.closed for file in files.values()))
    assert reasons == {"full": ["it could not be written: No space left on device"], "fine": []}
    found = describe(tmp_path / "full.eshr")
    assert found.damage_count == 0
    assert 0 < found.speakers[1].frames < 1000
    assert describe(tmp_path / "fine.eshr").speakers[1].frames == 1000


def test_a_limit_of_the_system_is_a_full_disk(tmp_path: Path, head: Header) -> None:
    reasons: list[str] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with writing(tmp_path) as writer:
        file = RecordingFile("den", head, reasons.append)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
        try:
            for seed in range(20):
                writer.put(file, batch(seed=seed))
            until(lambda: file.closed)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert reasons == ["it could not be written: File too large"]
    found = describe(tmp_path / "den.eshr")
    assert found.damage_count == 0
    assert found.speakers[1].frames > 0
    assert found.size <= 4000


def test_what_waits_for_a_disk_that_stands_still_is_bounded(tmp_path: Path, head: Header) -> None:
    go = threading.Event()

    def write(handle: int, data: memoryview) -> int:
        assert go.wait(PATIENCE_S)
        return os.write(handle, data)

    with writing(tmp_path, write, record_backlog_mb=0.01) as writer:
        file = RecordingFile("den", head, lambda reason: None)
        took = [writer.put(file, batch(seed=seed)) for seed in range(100)]
        assert 10 < sum(took) < 25
        assert writer.bytes_waiting <= 10_000
        go.set()
        writer.end(file, END)
        until(lambda: file.closed)
        assert writer.put(file, batch())
    assert describe(tmp_path / "den.eshr").speakers[1].frames == 50 * sum(took)
    assert writer.slowest_write_ms > 0


def test_a_folder_that_goes_away_is_said(tmp_path: Path, head: Header) -> None:
    reasons: list[str] = []
    with writing(tmp_path) as writer:
        tmp_path.rmdir()
        file = RecordingFile("den", head, reasons.append)
        writer.put(file, batch())
        until(lambda: file.closed)
    assert reasons == ["it could not be written: No such file or directory"]


def test_a_folder_that_is_full_takes_recordings_again_once_some_are_gone(
    tmp_path: Path, head: Header, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_S", 0.05)
    old = tmp_path / "old.eshr"
    old.write_bytes(bytes(100_000))
    with writing(tmp_path, record_folder_mb=0.1) as writer:
        file = RecordingFile("den", head, lambda reason: None)
        writer.put(file, batch())
        until(lambda: file.closed)
        assert writer.obstacle == module.FOLDER_FULL
        assert writer.fault is None
        old.unlink()
        until(lambda: writer.obstacle is None)
        another = RecordingFile("den", head, lambda reason: None)
        writer.put(another, batch())
        writer.end(another, END)
        until(lambda: another.closed)
    assert [path.name for path in tmp_path.iterdir()] == ["den.eshr"]


def test_records_are_not_longer_than_what_came(tmp_path: Path, head: Header) -> None:
    with writing(tmp_path) as writer:
        file = RecordingFile("den", head, lambda reason: None)
        writer.put(file, batch(frames=53))
        writer.end(file, END)
        until(lambda: file.closed)
    (spoken,) = [item for item, _ in read_items(tmp_path / "den.eshr") if isinstance(item, Spoken)]
    assert len(spoken.payload) == 8 * 53 * 10 // 8


def test_a_link_to_nowhere_in_the_folder_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "gone.eshr").symlink_to(tmp_path / "nowhere")
    (tmp_path / "old.eshr").write_bytes(bytes(100))
    with writing(tmp_path) as writer:
        assert writer._in_folder == 100
