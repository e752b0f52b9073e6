"""Small pieces of work that a codec worker does between its steps (server/encoding/worker.py):
entropy coding."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from threading import Event, Lock
from typing import Any

IDLE: AbstractContextManager[None] = nullcontext()
"""Stands for the activity of a thread that nobody watches."""
MEAN_OF = 100
"""How many of the last coding tasks make the mean."""


class CodingTasks:
    """Coding tasks that wait, oldest first. `put` is for the event loop; `do_one` and `rest` are
    for the worker's thread."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], Any], Future[tuple[Any, int]]]] = deque()
        self._lock = Lock()
        self._arrived = Event()
        self._ended = False
        self.count = 0
        self.cpu_us = 0
        """Processor time of all coding tasks so far."""
        self.mean_us = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def wait_us(self) -> float:
        """Returns how long one more would wait for those before it."""
        return len(self._waiting) * self.mean_us

    def put(self, work: Callable[[], Any]) -> Future[tuple[Any, int]]:
        """Queues a piece of work. The future has what `work` returns, and the microseconds of
        processor that it took. Work whose future is cancelled is not done."""
        future: Future[tuple[Any, int]] = Future()
        with self._lock:
            if self._ended:
                future.cancel()
            else:
                self._waiting.append((work, future))
        self._arrived.set()
        return future

    def do_one(self, activity: AbstractContextManager[None] = IDLE) -> bool:
        """Does the oldest, as a step of `activity`; False if none waits."""
        with self._lock:
            self._arrived.clear()
            if not self._waiting:
                return False
            work, future = self._waiting.popleft()
            self._arrived.set()
        if not future.set_running_or_notify_cancel():
            return True  # nobody waits for it any more
        began = time.thread_time_ns()
        try:
            with activity:
                value = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result((value, (time.thread_time_ns() - began) // 1000))
        took_us = (time.thread_time_ns() - began) // 1000
        self.count += 1
        self.cpu_us += took_us
        self.mean_us += (took_us - self.mean_us) / min(self.count, MEAN_OF)
        return True

    def rest(self, seconds: float, activity: AbstractContextManager[None] = IDLE) -> None:
        """Passes the time with coding tasks, one at least if one waits; the last may end a little
        later."""
        until = time.monotonic() + seconds
        while self.do_one(activity) or self._arrived.wait(max(until - time.monotonic(), 0)):
            if time.monotonic() >= until:
                return

    def end(self) -> None:
        """Does nothing any more; those who wait are told so by a cancelled future."""
        with self._lock:
            self._ended = True
        while self._waiting:
            self._waiting.popleft()[1].cancel()
