"""A token bucket: so much a second on average, so much at once."""

from __future__ import annotations


class TokenBucket:
    """Fills with `rate` tokens a second up to `burst`, and starts full. Times are microseconds of
    any one clock."""

    def __init__(self, rate: float, burst: float, now_us: int) -> None:
        self.rate, self.burst = rate, burst
        self._tokens = burst
        self._filled_us = now_us

    def take(self, amount: float, now_us: int) -> bool:
        """Takes `amount` tokens; False, and nothing taken, if there are not that many."""
        elapsed, tokens = now_us - self._filled_us, self._tokens
        if elapsed > 0:
            tokens += elapsed * self.rate / 1e6
            if tokens > self.burst:
                tokens = self.burst
            self._filled_us = now_us
        enough = amount <= tokens
        self._tokens = tokens - amount if enough else tokens
        return enough
