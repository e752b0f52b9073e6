"""When each of several things may begin, so that all of them keep to one rate."""

from __future__ import annotations


class Pace:
    """Gives out time at `per_second`, first come, first served. Times are microseconds of any one
    clock."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._free_us = 0.0

    def begin_us(self, amount: float, now_us: int) -> int:
        """Returns when so much may begin, and keeps the time for it."""
        begin = max(float(now_us), self._free_us)
        self._free_us = begin + 1e6 * amount / self._per_second
        return int(begin)
