"""Recordings on disk: the thread that writes them, and how large their files may be."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from earshot.recording.format import Event, Header, encode_event, encode_header
from earshot.server.core.recording_buffer import Batch
from earshot.server.settings import Settings
from earshot.server.watchdog import Activity

log = logging.getLogger(__name__)

SUFFIX = ".eshr"
NAMES = 1000
"""How many recordings of one room may begin in one second."""
STOP_TIMEOUT_S = 5.0
PROBE_S = 2.0
"""Time between two looks whether a disk that failed can be written again."""
PROBE_BYTES = 1 << 16
"""What it must take to count as writeable: the next batches of a busy server, roughly."""
FOLDER_FULL = "this server keeps no more recordings than it has"

Write = Callable[[int, memoryview], int]


@dataclass(eq=False)
class RecordingFile:
    """One recording. Opened by the writer's thread when the first codes come, and touched by no
    other."""

    stem: str
    header: Header
    ended: Callable[[str], None]
    """Told, on the writer's thread, why nothing more is written."""
    handle: int | None = None
    path: Path | None = None
    size: int = 0
    closed: bool = False


@dataclass(frozen=True)
class _End:
    event: Event


class Writer:
    """Writes batches to files, one after the other, on a thread of its own. What waits is bounded;
    what does not fit is not taken. `write` is `os.write` but where a test stands in for a disk."""

    def __init__(self, folder: Path, settings: Settings, write: Write = os.write) -> None:
        self._folder = folder
        self._most_waiting = int(settings.record_backlog_mb * 1e6)
        self._most_file = int(settings.record_max_mb * 1e6)
        self._most_folder = int(settings.record_folder_mb * 1e6)
        self._in_folder = self._folder_size()
        self._write_bytes = write
        self.fault: str | None = None
        """Why the system would not let a file be written; None once it can be again."""
        self._folder_full = False
        self._next_probe_s = 0.0
        self._activity = Activity("the recorder", settings.stuck_after_s)
        self._waiting: deque[tuple[RecordingFile, Batch | _End]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="earshot-recorder", daemon=True)
        self.bytes_waiting = 0
        self.bytes_written = 0
        self.slowest_write_ms = 0.0

    @property
    def obstacle(self) -> str | None:
        """Returns why no recording can begin now, if so."""
        if self.dead:
            return "the recorder of this server has ended"
        return self.fault or (FOLDER_FULL if self._folder_full else None)

    def faults(self) -> list[str]:
        """Returns why recordings do not get to disk, limits of this server aside. May be called on
        any thread."""
        thread = "the recorder has ended" if self.dead else self._activity.fault()
        disk = f"recordings: {self.fault}" if self.fault else None
        return [fault for fault in (thread, disk) if fault is not None]

    @property
    def dead(self) -> bool:
        """Returns whether the thread has ended although nobody told it to."""
        return self._thread.ident is not None and not self._thread.is_alive() and not self._stopping

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Writes what waits, as far as that takes no longer than STOP_TIMEOUT_S."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S)

    def put(self, file: RecordingFile, batch: Batch) -> bool:
        """Queues a batch; False if too much waits already."""
        with self._changed:
            if self.bytes_waiting + batch.size > self._most_waiting:
                return False
            self.bytes_waiting += batch.size
            self._waiting.append((file, batch))
            self._changed.notify()
        return True

    def end(self, file: RecordingFile, event: Event) -> None:
        """Closes a file once all before is written."""
        with self._changed:
            self._waiting.append((file, _End(event)))
            self._changed.notify()

    # What follows runs on the writer's own thread.

    def _run(self) -> None:
        try:
            self._work()
        except Exception:
            log.exception("the recorder has ended")

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            if (self.fault or self._folder_full) and time.monotonic() >= self._next_probe_s:
                with self._activity:
                    self._probe()
            began = time.monotonic_ns()
            touched: dict[RecordingFile, None] = {}
            for file, item in taken:
                self._do(file, item)
                if file.handle is not None:
                    touched[file] = None
            for file in touched:
                self._guarded(file, self._sync)
            with self._changed:
                self.bytes_waiting -= sum(item.size for _, item in taken if isinstance(item, Batch))
            self.slowest_write_ms = max(self.slowest_write_ms, (time.monotonic_ns() - began) / 1e6)

    def _take(self) -> deque[tuple[RecordingFile, Batch | _End]] | None:
        """Waits for something to write, no longer than until the next probe if one is due. Returns
        None at the end."""
        with self._changed:
            while not self._waiting and not self._stopping:
                if not (self.fault or self._folder_full):
                    self._changed.wait()
                elif not self._changed.wait(max(self._next_probe_s - time.monotonic(), 0.0)):
                    break
            if self._stopping and not self._waiting:
                return None
            taken, self._waiting = self._waiting, deque()
        return taken

    def _probe(self) -> None:
        """Looks whether recordings can be written again. What is written for that has no name, so
        nothing of it stays."""
        self._in_folder = self._folder_size()
        self._folder_full = self._in_folder + PROBE_BYTES > self._most_folder
        try:
            with tempfile.TemporaryFile(dir=self._folder, buffering=0) as file:
                left = memoryview(bytes(PROBE_BYTES))
                while left:
                    left = left[self._write_bytes(file.fileno(), left) :]
                os.fsync(file.fileno())
        except OSError as error:
            self.fault = _said(error)
        else:
            if self.fault is not None:
                log.warning("recordings can be written again")
            self.fault = None
        self._next_probe_s = time.monotonic() + PROBE_S

    def _folder_size(self) -> int:
        size = 0
        for file in self._folder.glob(f"*{SUFFIX}"):
            with suppress(OSError):  # it is gone by now, or a link to nowhere
                size += file.stat().st_size
        return size

    def _do(self, file: RecordingFile, item: Batch | _End) -> None:
        if isinstance(item, Batch):
            self._guarded(file, lambda file: self._append(file, item))
        else:
            self._guarded(file, lambda file: self._finish(file, item.event))

    def _guarded(self, file: RecordingFile, work: Callable[[RecordingFile], None]) -> None:
        """Does something with a file; whatever goes wrong with it ends that recording, and nothing
        else."""
        if file.closed:
            return
        try:
            with self._activity:
                work(file)
        except OSError as error:
            reason = _said(error)
            if self.fault is None:
                log.error("a recording ends: %s", reason)
            self.fault = reason
            self._next_probe_s = time.monotonic() + PROBE_S
            self._give_up(file, reason)
        except Exception:
            log.exception("recording %s failed", file.stem)
            self._give_up(file, "internal error of the server")

    def _give_up(self, file: RecordingFile, reason: str) -> None:
        self._close(file)
        if file.path is not None and not file.size:
            with suppress(OSError):
                file.path.unlink()
        file.ended(reason)

    def _append(self, file: RecordingFile, batch: Batch) -> None:
        data = batch.encode(file.header.salt)
        front = encode_header(file.header) if file.handle is None else b""
        if file.size + len(front) + len(data) > self._most_file:
            self._limit(file, batch.at, "it is as large as this server lets a recording be")
        elif self._in_folder + len(front) + len(data) > self._most_folder:
            self._folder_full = True
            self._next_probe_s = time.monotonic() + PROBE_S
            self._limit(file, batch.at, FOLDER_FULL)
        else:
            if file.handle is None:
                self._open(file)
            self._write(file, front + data)

    def _limit(self, file: RecordingFile, at: int, reason: str) -> None:
        if file.handle is not None:
            self._write(file, encode_event(Event(type="ended", at=at, reason=reason), file.header.salt))
            self._sync(file)
        self._give_up(file, reason)

    def _open(self, file: RecordingFile) -> None:
        for number in range(NAMES):
            path = self._folder / f"{file.stem}{f'-{number + 1}' if number else ''}{SUFFIX}"
            with suppress(FileExistsError):
                # For its owner's eyes only: it is what people said.
                file.handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
                file.path = path
                return
        raise FileExistsError(f"{NAMES} recordings of this name")

    def _write(self, file: RecordingFile, data: bytes) -> None:
        """Writes all of it or nothing: what is left of a record on a full disk is cut off again."""
        if file.handle is None:
            return
        left = memoryview(data)
        try:
            while left:
                left = left[self._write_bytes(file.handle, left) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(file.handle, file.size)
            raise
        file.size += len(data)
        self._in_folder += len(data)
        self.bytes_written += len(data)

    def _finish(self, file: RecordingFile, event: Event) -> None:
        if file.handle is not None:
            self._write(file, encode_event(event, file.header.salt))
            self._sync(file)
        self._close(file)

    def _sync(self, file: RecordingFile) -> None:
        if file.handle is not None:
            os.fsync(file.handle)

    def _close(self, file: RecordingFile) -> None:
        file.closed = True
        if file.handle is not None:
            with suppress(OSError):
                os.close(file.handle)
            file.handle = None


def _said(error: OSError) -> str:
    return f"it could not be written: {error.strerror or error}"
