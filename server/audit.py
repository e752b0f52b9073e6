"""The audit log: who came, left or was refused, and which rooms were recorded; a line for each.

Names, addresses and reasons come from strangers, so they are quoted, escaped and cut, and there are
so many lines a second at most. What goes over that is counted, kind by kind."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue
from typing import Literal, get_args

log = logging.getLogger("earshot.audit")

AuditKind = Literal["joined", "left", "refused", "gone", "turned_away", "recording", "moderated", "slow", "drain"]
"""What is noted: of a client that came into a room and left it, of one that was refused or went by
itself before that, of a connection or request that never reached a room, of recordings, of what
moderators do, of listeners that read too slowly, and of the end of the server."""
KINDS: tuple[AuditKind, ...] = get_args(AuditKind)
WINDOW_S = 1.0
"""Time over which lines are counted."""
MAX_TEXT = 200
"""Characters of one field that are shown."""
STDERR = 2
"""The number of the open file that every process has for what it says about itself."""
STOP_TIMEOUT_S = 2.0
"""Time that the last lines have, should nobody read them."""
MAX_LINES_WAITING = 10_000
"""Lines of the log that wait for whatever reads it; more are dropped."""


def quote(text: str) -> str:
    """Returns a text between double quotes, with everything in it escaped that is not plainly
    visible: control characters, line ends, marks that change the direction of writing."""
    shown = "".join(_escape(char) for char in text[:MAX_TEXT])
    return f'"{shown}"' + ("..." if len(text) > MAX_TEXT else "")


def _escape(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 1 << 16 else f"\\U{ord(char):08x}"


def _later(seconds: float, work: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, work)


class Audit:
    """Writes lines like `refused address="10.0.0.7" room="den" code=4005 reason="..."`. For the
    event loop."""

    def __init__(
        self,
        lines_per_second: int,
        clock_s: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], None] = _later,
    ) -> None:
        """Each kind has an equal part of the lines, so that a flood of refusals hides nobody who
        joins. `later` calls a function after some seconds."""
        self._most = max(1, lines_per_second // len(KINDS))
        self._clock_s, self._later = clock_s, later
        self._window_s = -WINDOW_S
        """When the present window began."""
        self._written: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def note(self, kind: AuditKind, **fields: str | int | None) -> None:
        """Writes a line, unless there are too many of its kind just now. Fields that are None are
        left out."""
        if not log.isEnabledFor(logging.INFO):
            return
        now_s = self._clock_s()
        if now_s - self._window_s >= WINDOW_S:
            self._begin_window(now_s)
        if self._written[kind] >= self._most:
            if not self._left_out:
                self._later(WINDOW_S, self._summarise)
            self._left_out[kind] += 1
            return
        self._written[kind] += 1
        shown = (
            f"{name}={value if isinstance(value, int) else quote(value)}"
            for name, value in fields.items()
            if value is not None
        )
        log.info("%s", " ".join((kind, *shown)))

    def _begin_window(self, now_s: float) -> None:
        self._summarise()
        self._window_s = now_s
        self._written.clear()

    def _summarise(self) -> None:
        """Says how many lines were left out, if any were."""
        if self._left_out:
            counts = ", ".join(f"{count} more {kind}" for kind, count in sorted(self._left_out.items()))
            log.info("%s", f"not shown, too many a second: {counts}")
            self._left_out.clear()


class _DroppingHandler(QueueHandler):
    """Drops lines where whatever reads the log is too slow: the event loop waits for nobody."""

    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(Full):
            self.queue.put_nowait(record)


class _FileHandler(logging.Handler):
    """Writes lines to an open file. It has no lock and no buffer: Python would wait for them at its
    end, and for ever if nobody reads the file."""

    def __init__(self, file: int) -> None:
        super().__init__()
        self._file = file

    def createLock(self) -> None:  # noqa: N802 -- a name of logging
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # a log that cannot be written says so nowhere
            os.write(self._file, (self.format(record) + "\n").encode(errors="backslashreplace"))


@contextmanager
def logging_to_stderr(level: str, stderr: int = STDERR) -> Iterator[None]:
    """Writes what Earshot logs to stderr from this level on, with the time, on a thread of its
    own: the event loop never waits for whatever reads it."""
    handler = _FileHandler(stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    queue: Queue[logging.LogRecord] = Queue(MAX_LINES_WAITING)
    listener = QueueListener(queue, handler)
    dropping = _DroppingHandler(queue)
    logger = logging.getLogger("earshot")
    before = logger.level
    logger.addHandler(dropping)
    logger.setLevel(level.upper())
    listener.start()
    try:
        yield
    finally:
        logger.removeHandler(dropping)
        logger.setLevel(before)
        if not queue.full():
            ending = threading.Thread(target=listener.stop, daemon=True)
            ending.start()
            ending.join(STOP_TIMEOUT_S)
