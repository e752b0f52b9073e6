"""The end of a server that was announced: those in its rooms go on to talk until it comes."""

from __future__ import annotations

import signal
from collections.abc import Callable

from earshot.protocol.messages import Draining
from earshot.server.clock import clock_us
from earshot.server.core import refusals


def _stop_process() -> None:
    signal.raise_signal(signal.SIGTERM)


class Drain:
    """Whether a server is being drained, and until when."""

    def __init__(self) -> None:
        self._until_us: int | None = None
        self._over = False
        self.end: Callable[[], None] = _stop_process
        """Ends the server; called once, when nobody is left or the time is over."""

    @property
    def on(self) -> bool:
        return self._until_us is not None

    def begin(self, within_s: float) -> None:
        """Sets the end, at the latest; again for another."""
        self._until_us = clock_us() + int(within_s * 1e6)

    def check_new_room(self) -> None:
        """Raises ProtocolError once no room may be opened any more."""
        if self.on:
            raise refusals.draining()

    @property
    def news(self) -> Draining | None:
        """What those in a room are told; None while there is nothing to tell."""
        if self._until_us is None:
            return None
        return Draining(within_s=max(0, round((self._until_us - clock_us()) / 1e6)))

    def look(self, empty: bool) -> bool:
        """Ends the server if it is time for that; `empty` says that nobody is in a room. Returns
        whether it did."""
        if self._until_us is None or self._over or not (empty or clock_us() >= self._until_us):
            return False
        self._over = True
        self.end()
        return True
