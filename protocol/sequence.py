"""Continuity of a stream: sequence numbers, timestamps and clock readings that wrap.

The rules of docs/protocol.md: every stream has a sequence number, which counts what was made, and a
timestamp, which counts samples. Both wrap, so a number on the wire only has a meaning next to a
number that is already known. `SequenceTracker` serves streams whose packets arrive in order.
`ReorderTracker` serves whoever puts the packets of a stream back in order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from enum import Enum

SEQUENCE_MODULUS = 1 << 16
TIMESTAMP_MODULUS = 1 << 32
CLOCK_MODULUS = 1 << 32


def wrap_difference(later: int, earlier: int, modulus: int) -> int:
    """Returns `later - earlier` of two numbers that wrap, in -modulus/2 .. modulus/2 - 1.

    This is the comparison of RFC 1982."""
    return (later - earlier + modulus // 2) % modulus - modulus // 2


def unwrap(wrapped: int, near: int, modulus: int) -> int:
    """Returns the number that is closest to `near` of all that wrap to `wrapped`."""
    return near + wrap_difference(wrapped, near, modulus)


class SequenceTracker:
    """Follows one number of a stream, a sequence number or a timestamp, from packet to packet.

    The tracker only measures. Its user decides which packets it accepts, and calls `expect` for
    those."""

    def __init__(self, modulus: int) -> None:
        self._modulus = modulus
        self._expected: int | None = None

    @property
    def expected(self) -> int | None:
        """The number that follows in order, None before the first."""
        return None if self._expected is None else self._expected % self._modulus

    def gap(self, number: int) -> int:
        """Returns how far a number on the wire is beyond the expected one.

        The result is 0 for the number that follows in order and for the first one of a stream, and
        negative for a number that comes late or twice."""
        return 0 if self._expected is None else wrap_difference(number, self._expected, self._modulus)

    def unwrap(self, number: int) -> int:
        """Returns a number on the wire as it would be without wrapping, as close as possible to the
        expected one."""
        return number if self._expected is None else unwrap(number, self._expected, self._modulus)

    def expect(self, number: int) -> None:
        """Sets the number that follows in order. It may be wrapped or not."""
        self._expected = number

    def reset(self) -> None:
        """Forgets the stream, so that any number may come next."""
        self._expected = None


class Arrival(Enum):
    """What a number is to a `ReorderTracker` when it arrives."""

    IN_TIME = "in time"
    """Its turn is still to come."""
    LATE = "late"
    """It was given up, or its turn was so long ago that nothing is remembered of it."""
    DUPLICATE = "duplicate"
    """It has come before."""


class ReorderTracker:
    """Decides what becomes of numbers that come in any order and are handed out in ascending order.

    All numbers are unwrapped. The tracker remembers the last `memory` numbers that were given up,
    and so tells a late number from a duplicate one."""

    def __init__(self, memory: int) -> None:
        self.missing = 0
        """How many numbers were given up. One that comes afterwards still counts."""
        self._memory = memory
        self._next: int | None = None
        self._given_up: OrderedDict[int, None] = OrderedDict()

    def is_next(self, number: int) -> bool:
        """Returns whether no number is missing before this one."""
        return self._next is None or number == self._next

    def arrive(self, number: int, waiting: Container[int]) -> Arrival:
        """Returns what a number is, given those that have come and wait for their turn."""
        if number in waiting:
            return Arrival.DUPLICATE
        if self._next is None or number >= self._next:
            return Arrival.IN_TIME
        given_up = number in self._given_up
        self._given_up.pop(number, None)
        remembered = self._next - number <= self._memory
        return Arrival.LATE if given_up or not remembered else Arrival.DUPLICATE

    def hand_out(self, number: int) -> None:
        """Takes note that a number has had its turn. Those missing before it are given up."""
        if self._next is not None:
            self.missing += number - self._next
            for missing in range(max(self._next, number - self._memory), number):
                self._given_up[missing] = None
            while len(self._given_up) > self._memory:
                self._given_up.popitem(last=False)
        self._next = number + 1
