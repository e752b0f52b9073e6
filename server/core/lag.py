"""How late the event loop was lately. No clock."""

from __future__ import annotations

from collections import deque

WINDOW_US = 3_000_000
"""Time that is looked back on. A pause that everyone has now and then is a small part of it."""


class Lag:
    """Takes in how late each turn of the event loop was."""

    def __init__(self, limit: float) -> None:
        """`limit` is the part of the time that may go by in being late."""
        self._limit = limit
        self._turns: deque[tuple[int, int]] = deque()
        self._sum_us = 0

    def add(self, late_us: int, now_us: int) -> None:
        """Counts a turn that came so late."""
        self._turns.append((now_us, late_us))
        self._sum_us += late_us
        self._forget(now_us)

    def share(self, now_us: int) -> float:
        """Returns the part of the last seconds that went by in being late."""
        self._forget(now_us)
        return min(self._sum_us / WINDOW_US, 1.0)

    def behind(self, now_us: int) -> bool:
        """Returns whether that is more than the limit."""
        return self.share(now_us) > self._limit

    def _forget(self, now_us: int) -> None:
        while self._turns and now_us - self._turns[0][0] > WINDOW_US:
            self._sum_us -= self._turns.popleft()[1]
