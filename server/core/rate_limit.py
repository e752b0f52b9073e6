"""A token bucket: so much a second on average, so much at once."""

from __future__ import annotations

from collections import OrderedDict

from earshot.server.core.address_shares import address_key


class TokenBucket:
    """Fills with `rate` tokens a second up to `burst`, and starts full. Times are microseconds of
    any one clock."""

    def __init__(self, rate: float, burst: float, now_us: int) -> None:
        self.rate, self.burst = rate, burst
        self._tokens = burst
        self._filled_us = now_us
        self._credit = 0.0

    def credit(self, span_us: int) -> None:
        """Lets what a span of time fills in stand above the burst, until it is used: in that time
        nobody could take any. To be called before the first `take` after the span."""
        self._credit += span_us * self.rate / 1e6

    def has(self, amount: float, now_us: int) -> bool:
        """Returns whether `take` would take so many tokens."""
        return self.take(0, now_us) and amount <= self._tokens

    def take(self, amount: float, now_us: int) -> bool:
        """Takes `amount` tokens; False, and nothing taken, if there are not that many."""
        elapsed, tokens = now_us - self._filled_us, self._tokens
        if elapsed > 0:
            most = (tokens if tokens > self.burst else self.burst) + self._credit
            tokens += elapsed * self.rate / 1e6
            if tokens > most:
                tokens = most
            self._filled_us, self._credit = now_us, 0.0
        enough = amount <= tokens
        self._tokens = tokens - amount if enough else tokens
        return enough


class AddressBuckets:
    """A token bucket for each address (`address_key`), of those seen last. A bucket that is
    forgotten would have filled up again long before."""

    def __init__(self, rate: float, burst: float, most: int = 1024) -> None:
        self._rate, self._burst, self._most = rate, burst, most
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        """Returns how many addresses have a bucket."""
        return len(self._buckets)

    def take(self, address: str, amount: float, now_us: int) -> bool:
        """Takes tokens from the bucket of an address; False, and nothing taken, if there are not
        that many."""
        key = address_key(address)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst, now_us)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket.take(amount, now_us)
