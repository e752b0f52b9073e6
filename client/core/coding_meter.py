"""What coding packets once more, right before the socket, saves and costs."""

from __future__ import annotations

from dataclasses import dataclass, field

RECENT_US = 1_000_000


@dataclass(frozen=True)
class CodingTotals:
    """Sums over packets that were sent or came coded."""

    plain_bytes: int = 0
    """What their codes would have been."""
    coded_bytes: int = 0
    cpu_us: int = 0

    def plus(self, other: CodingTotals, sign: int = 1) -> CodingTotals:
        """Returns the sum, or with `sign` -1 the difference."""
        return CodingTotals(
            self.plain_bytes + sign * other.plain_bytes,
            self.coded_bytes + sign * other.coded_bytes,
            self.cpu_us + sign * other.cpu_us,
        )


@dataclass(frozen=True)
class CodingRates:
    """Codes a second of time, without headers, and the part of one core that coding takes."""

    plain_kbps: float = 0.0
    coded_kbps: float = 0.0
    cpu_share: float = 0.0


@dataclass
class CodingMeter:
    """Counts totals, and those of the last one to two seconds."""

    total: CodingTotals = field(default_factory=CodingTotals)
    _marks: tuple[tuple[int, CodingTotals], ...] = ()
    """The totals at the last two moments that are at least RECENT_US apart."""

    def add(self, more: CodingTotals, now_us: int) -> None:
        """Adds what packets saved and cost."""
        if not self._marks or now_us - self._marks[-1][0] >= RECENT_US:
            self._marks = (*self._marks[-1:], (now_us, self.total))
        self.total = self.total.plus(more)

    def recent(self, now_us: int) -> CodingRates:
        """Returns the rates of the last one to two seconds, all zero if nothing was coded then."""
        if not self._marks or now_us - self._marks[-1][0] > 2 * RECENT_US:
            return CodingRates()
        at, before = self._marks[0]
        since, took_us = self.total.plus(before, -1), max(now_us - at, RECENT_US // 4)
        return CodingRates(since.plain_bytes * 8e3 / took_us, since.coded_bytes * 8e3 / took_us, since.cpu_us / took_us)
