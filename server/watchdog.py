"""What each thread of a server is doing, and since when, so that one that is dead or stuck is seen.

A thread notes with an `Activity` when a step begins and ends. All that is here may be asked on any
thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

CHECKS = 8
"""How often the watchdog looks within the time after which a step counts as stuck."""


class Activity:
    """One thread's steps, one after the other: `with activity:` around each."""

    def __init__(self, name: str, stuck_after_s: float) -> None:
        """`name` says what does the steps, for people to read."""
        self.name = name
        self.stuck_after_s = stuck_after_s
        self._began_s: float | None = None

    def __enter__(self) -> None:
        self._began_s = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self._began_s = None

    def busy_s(self) -> float:
        """Returns how long the present step has taken; 0 between two steps."""
        began_s = self._began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    @property
    def stuck(self) -> bool:
        return self.busy_s() > self.stuck_after_s

    def fault(self) -> str | None:
        """Returns what is wrong, if something is."""
        if not self.stuck:
            return None
        return f"{self.name} is stuck: a step has taken more than {self.stuck_after_s:g} s"


class Watchdog:
    """Looks for faults on a thread of its own, and logs when they come and go: while the event
    loop is stuck, nothing else could."""

    def __init__(self, stuck_after_s: float, look: Callable[[], list[str]]) -> None:
        """`look` returns the faults of everything but the event loop; it is called on any
        thread."""
        self._loop_steps = Activity("the event loop", stuck_after_s)
        self._look = look
        self._interval_s = stuck_after_s / CHECKS
        self._ticking: asyncio.Task[None] | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="earshot-watchdog", daemon=True)
        self._seen: set[str] = set()
        self.faults_total = 0
        """How many faults have come so far."""

    async def start(self) -> None:
        """Watches the loop that this runs on, too."""
        self._ticking = asyncio.create_task(self._tick())
        self._thread.start()

    async def stop(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        self._stopped.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    async def _tick(self) -> None:
        """Begins a step of the event loop again and again: all that runs between two ticks is part
        of one."""
        while True:
            self._loop_steps.__enter__()
            await asyncio.sleep(self._interval_s)

    def faults(self) -> list[str]:
        """Returns what is dead or stuck, each fault once."""
        loop = self._loop_steps.fault()
        started, stopped = self._thread.ident is not None, self._stopped.is_set()
        dead = ["the watchdog has ended"] if started and not stopped and not self._thread.is_alive() else []
        return list(dict.fromkeys([*([loop] if loop else []), *self._look(), *dead]))

    def stats(self) -> dict[str, Any]:
        """Returns what `/stats` shows."""
        return {"faults": self.faults(), "faults_total": self.faults_total}

    def _run(self) -> None:
        looked_s = time.monotonic()
        while not self._stopped.wait(self._interval_s):
            late_s, looked_s = time.monotonic() - looked_s - self._interval_s, time.monotonic()
            if late_s > self._interval_s:
                continue  # the whole process stood still, so this says nothing of one thread
            try:
                self._note(set(self.faults()))
            except Exception:
                log.exception("the watchdog could not look")

    def _note(self, faults: set[str]) -> None:
        for fault in sorted(faults - self._seen):
            self.faults_total += 1
            log.error("%s", fault)
        for fault in sorted(self._seen - faults):
            log.warning("no longer: %s", fault)
        self._seen = faults
