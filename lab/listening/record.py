"""The files that ratings are kept in. What was acknowledged survives a crash; a record that a crash
cut short is removed."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from earshot.codec.errors import UsageError
from earshot.lab.listening.plan import REFERENCE
from earshot.lab.listening.scores import HIGHEST, LOWEST, Rating

SCORE_COLUMNS = ("rater", "trial", "system", "score", "seconds", "time")
RATER_COLUMNS = ("rater", "key")


class Table:
    """A CSV file that only grows, whole records at a time, in one process. Close it, or use it as a
    context."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Raises UsageError for a file of something else, and one that another process writes
        to."""
        self._path = path
        # Names are people's own, and the keys of raters open what they have rated.
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        try:
            self._lock()
            self.rows, self._size = _whole_rows(path, path.read_bytes(), columns)
            self._cut()
            if not self._size:
                self.append([columns])
        except BaseException:
            os.close(self._file)
            raise

    def append(self, rows: Sequence[Sequence[object]]) -> None:
        """Adds all of these rows or, with an OSError, none of them; they are on the disk when this
        returns."""
        data = _lines(rows)
        try:
            os.lseek(self._file, self._size, os.SEEK_SET)
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            os.fsync(self._file)
        except OSError:
            self._cut()
            raise
        self._size += len(data)

    def keep(self, rows: int) -> None:
        """Removes all rows after these."""
        data = self._path.read_bytes().split(b"\n")
        self.rows, self._size = self.rows[:rows], sum(len(line) + 1 for line in data[: rows + 1])
        self._cut()

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _cut(self) -> None:
        os.ftruncate(self._file, self._size)

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"{self._path} is being written by another `earshot listen`") from error


class ScoreFile:
    """Ratings as CSV, a whole trial at a time: its rows come together, that of the hidden reference
    last."""

    def __init__(self, path: Path) -> None:
        self._table = Table(path, SCORE_COLUMNS)
        try:
            ratings = _ratings(path, self._table.rows)
            self.ratings = _whole_trials(ratings)
            if len(self.ratings) < len(ratings):
                self._table.keep(len(self.ratings))
        except BaseException:
            self._table.close()
            raise

    def append(self, trial: Sequence[Rating]) -> None:
        """Adds all of a trial or, with an OSError, nothing."""
        rows = sorted(trial, key=lambda rating: rating.system == REFERENCE)
        self._table.append([(r.rater, r.trial, r.system, r.score, f"{r.seconds:.1f}", r.time) for r in rows])
        self.ratings.extend(rows)

    def close(self) -> None:
        self._table.close()


def read_ratings(path: Path) -> list[Rating]:
    """Returns all whole trials of a file, which may be written to meanwhile. Raises UsageError if
    it holds something else."""
    if not path.is_file():
        raise UsageError(f"nobody has rated yet: there is no {path}")
    rows, _ = _whole_rows(path, path.read_bytes(), SCORE_COLUMNS)
    return _whole_trials(_ratings(path, rows))


def _lines(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _whole_rows(path: Path, data: bytes, columns: Sequence[str]) -> tuple[list[list[str]], int]:
    """Returns the rows below the heading, and the number of bytes up to the end of the last whole
    one."""
    end = data.rfind(b"\n") + 1
    try:
        text = data[:end].decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a file of `earshot listen`: it is not text") from error
    rows = list(csv.reader(text.splitlines()))
    heading = _lines([columns])
    if (rows and rows[0] != list(columns)) or (not rows and not heading.startswith(data)):
        raise UsageError(f"{path} is not a file of `earshot listen`: its columns are not {', '.join(columns)}")
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise UsageError(f"{path} is damaged in line {number}")
    return rows[1:], end


def _ratings(path: Path, rows: Sequence[Sequence[str]]) -> list[Rating]:
    found = []
    for number, (rater, trial, system, score, seconds, time) in enumerate(rows, 2):
        try:
            rating = Rating(rater, trial, system, int(score), float(seconds), time)
        except ValueError as error:
            raise UsageError(f"{path} is damaged in line {number}") from error
        if not LOWEST <= rating.score <= HIGHEST:
            raise UsageError(f"{path} is damaged in line {number}: a score of {score}")
        found.append(rating)
    return found


def _whole_trials(ratings: list[Rating]) -> list[Rating]:
    """Returns the ratings without the rows at the end whose reference is missing."""
    end = len(ratings)
    while end and ratings[end - 1].system != REFERENCE:
        end -= 1
    return ratings[:end]
