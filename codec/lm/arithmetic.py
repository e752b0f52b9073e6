"""The arithmetic coder of the `encodec` package, bit for bit (its `quantization/ac.py`), and a
shorter end for packets.

A stream of bits is a number in a range, which each symbol narrows in proportion to its probability.
This coder works with whole numbers only. The package computes boundaries in float64, but a range is
below 2^25 and a boundary below 2^24, so its products are exact, and rounding them equals a
shift."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Cdf = NDArray[np.int64]
"""[card]: where the part of the range of each symbol ends. It rises by 2 at least, to 2^24 at
most."""

RANGE_BITS = 24
TOTAL = 1 << RANGE_BITS
LEAST = 2
"""Smallest part of the range that a symbol may have."""
ROUNDOFF = 1e-8
MOST_BITS = 4096
"""Most bits that may wait to be decided. An honest stream has 60 once in years."""


class Damaged(ValueError):  # noqa: N818 -- readers of files and packets report it in words of their own
    """The bits are not those of any stream of symbols."""


def quantized_cdf(probabilities: NDArray[np.float32]) -> Cdf:
    """Returns the CDF of probabilities (float32 [card], with a sum of about 1) as the package
    builds it, operation by operation in float32.

    Probabilities are rounded down to multiples of 1e-8, which hides some differences between
    machines, but not all."""
    rounded = np.floor(probabilities / np.float32(ROUNDOFF)) * np.float32(ROUNDOFF)
    share = 1 - LEAST * probabilities.size / TOTAL
    parts = np.floor(np.float32(share * TOTAL) * rounded).astype(np.int64) + LEAST
    return np.cumsum(parts)


class ArithmeticEncoder:
    """Turns symbols and their CDFs into bytes."""

    def __init__(self) -> None:
        self._low, self._high, self._max_bit = 0, 0, -1
        self._done = bytearray()
        self._byte, self._bits = 0, 0

    def push(self, symbol: int, cdf: Cdf) -> None:
        """Narrows the range to the part of `symbol`."""
        while self._high - self._low + 1 < TOTAL:
            self._low, self._high, self._max_bit = self._low * 2, self._high * 2 + 1, self._max_bit + 1
        delta = self._high - self._low + 1
        start = int(cdf[symbol - 1]) if symbol else 0
        self._high = self._low + ((int(cdf[symbol]) - 1) * delta >> RANGE_BITS)
        self._low -= -start * delta >> RANGE_BITS  # rounded up
        while self._max_bit >= 0 and (bit := self._low >> self._max_bit) == self._high >> self._max_bit:
            self._low -= bit << self._max_bit
            self._high -= bit << self._max_bit
            self._max_bit -= 1
            self._write(bit)

    def take(self) -> bytes:
        """Returns the whole bytes that are decided, each once."""
        done = bytes(self._done)
        self._done.clear()
        return done

    def finish(self) -> bytes:
        """Ends the stream as the package does, with all bits of the range. Returns the bytes that
        were not taken yet."""
        for at in range(self._max_bit, -1, -1):
            self._write(self._low >> at & 1)
        return self._end()

    def finish_short(self) -> bytes:
        """Ends the stream with the fewest bits that name a number in the range; the decoder reads
        zeros after them. This is about 21 bits shorter, which matters in packets because each one
        ends a stream."""
        width = self._max_bit + 1
        for count in range(width + 1):
            step = width - count
            value = -(-self._low >> step)
            if value << step <= self._high:
                for at in range(count - 1, -1, -1):
                    self._write(value >> at & 1)
                break
        return self._end().rstrip(b"\0")

    def _write(self, bit: int) -> None:
        self._byte |= bit << self._bits
        self._bits += 1
        if self._bits == 8:
            self._done.append(self._byte)
            self._byte, self._bits = 0, 0

    def _end(self) -> bytes:
        if self._bits:
            self._done.append(self._byte)
        self._low, self._high, self._max_bit, self._byte, self._bits = 0, 0, -1, 0, 0
        return self.take()


class ArithmeticDecoder:
    """Turns bytes into symbols, given the CDFs that they were coded with. A byte is read only when
    it is needed, so that a stream that the package ended leaves its source at the next stream."""

    def __init__(self, source: Iterator[int], endless: bool = False) -> None:
        """`source` yields bytes. At its end, `pull` raises EOFError, or reads zeros if
        `endless`."""
        self._source, self._endless = source, endless
        self._low, self._high, self._current, self._max_bit = 0, 0, 0, -1
        self._byte, self._bits = 0, 0

    def pull(self, cdf: Cdf) -> int:
        """Returns the next symbol. Raises EOFError at the end of the source, and Damaged for bits
        that are not those of any symbol."""
        while self._high - self._low + 1 < TOTAL:
            bit = self._read()
            self._low, self._high, self._max_bit = self._low * 2, self._high * 2 + 1, self._max_bit + 1
            self._current = self._current * 2 + bit
        if self._max_bit > MOST_BITS:
            raise Damaged("too many undecided bits")
        delta = self._high - self._low + 1
        symbol = int(np.searchsorted(cdf, ((self._current - self._low) << RANGE_BITS) // delta, side="right"))
        if symbol == len(cdf):
            raise Damaged("bits beyond the last symbol")
        start = int(cdf[symbol - 1]) if symbol else 0
        self._high = self._low + ((int(cdf[symbol]) - 1) * delta >> RANGE_BITS)
        self._low -= -start * delta >> RANGE_BITS
        if self._current > self._high:
            raise Damaged("bits between two symbols")
        while self._max_bit >= 0 and (bit := self._low >> self._max_bit) == self._high >> self._max_bit:
            self._low -= bit << self._max_bit
            self._high -= bit << self._max_bit
            self._current -= bit << self._max_bit
            self._max_bit -= 1
        return symbol

    def _read(self) -> int:
        if not self._bits:
            byte = next(self._source, None)
            if byte is None and not self._endless:
                raise EOFError
            self._byte, self._bits = byte or 0, 8
        bit = self._byte & 1
        self._byte >>= 1
        self._bits -= 1
        return bit
