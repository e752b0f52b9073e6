"""How long the server itself has stood still: what came in that time waited here, and is not ahead
of its time."""

from __future__ import annotations

LONGEST_CREDIT_US = 30_000_000
"""A pause counts as this long at most."""


class PauseWatch:
    """Adds up the times in which the event loop did not turn. Something must call `total` at least
    every half of `bound_us` while it does."""

    def __init__(self, bound_us: int, now_us: int) -> None:
        """A time without a call that is longer than `bound_us` is a pause."""
        self._bound_us, self._last_us, self._total_us = bound_us, now_us, 0

    def total(self, now_us: int) -> int:
        """Returns the microseconds of all pauses until now."""
        gap_us, self._last_us = now_us - self._last_us, now_us
        if gap_us > self._bound_us:
            self._total_us += min(gap_us, LONGEST_CREDIT_US)
        return self._total_us
