"""What long work says of itself: before it begins, and where there is no terminal to draw a bar
on."""

from __future__ import annotations

import time
from collections.abc import Callable

from earshot.codec.terminal import Terminal

LOADING = "loading the model"
"""What takes seconds before the work begins, for `Terminal.waiting`."""
EVERY_S = 10.0
"""Seconds between two lines."""


class Lines:
    """Says how far work has come, on the console for errors: what is piped stays clean."""

    def __init__(self, verb: str, console: Terminal | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._verb, self._console, self._clock = verb, console or Terminal(stderr=True), clock
        self._said_s = clock()

    def show(self, done: float, total: float, what: str = "") -> None:
        """Takes how much of the work is done. A line is said now and then."""
        now = self._clock()
        if now - self._said_s >= EVERY_S:
            self._said_s = now
            share = f" {done / total:.0%}" if total else ""
            self._console.say(f"{self._verb}{share}{f' ({what})' if what else ''}")
