"""When each of several things may begin, so that all of them keep to one rate."""

from __future__ import annotations


class Pace:
    """Gives out time at `per_second`, first come, first served. Time that nobody wanted is saved
    up, `saved_us` of it at most. Times are microseconds of any one clock."""

    def __init__(self, per_second: float, saved_us: int = 0) -> None:
        self._per_second = per_second
        self._saved_us = saved_us
        self._free_us = 0.0

    def begin_us(self, amount: float, now_us: int) -> int:
        """Returns when so much may begin, and keeps the time for it."""
        begin = max(float(now_us - self._saved_us), self._free_us)
        self._free_us = begin + 1e6 * amount / self._per_second
        return max(int(begin), now_us)
