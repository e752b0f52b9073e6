"""The server's clock as seen from here, by NTP's four times (docs/protocol.md, "Clocks"; RFC 5905,
section 8)."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from earshot.codec.errors import UsageError
from earshot.protocol.messages import Ping, Pong
from earshot.protocol.sequence import CLOCK_MODULUS, wrap_difference

MAX_PENDING = 64
"""Pings without an answer that are remembered."""


class _Sample(NamedTuple):
    at_us: int
    offset_us: int
    round_trip_us: int


class ServerClock:
    """Estimates the offset of the server's clock from pings that the caller sends.

    The best of the last `keep` answers counts, of those that are no older than `max_age_us`. Older
    ones are forgotten, because two oscillators drift apart by up to 100 us a second. All times are
    microseconds of one local monotonic clock. One thread writes; `offset_us` may be read from
    any."""

    def __init__(self, keep: int = 32, max_age_us: int = 60_000_000) -> None:
        self._samples: deque[_Sample] = deque(maxlen=keep)
        self._pending: deque[int] = deque(maxlen=MAX_PENDING)
        self._max_age_us = max_age_us
        self._best: _Sample | None = None
        self.ignored = 0
        """Pongs that answer no ping of ours or contradict the clock."""

    @property
    def ready(self) -> bool:
        """Whether the offset is known."""
        return self._best is not None

    @property
    def offset_us(self) -> int | None:
        """The server's clock minus the local one, None until the first pong."""
        best = self._best
        return None if best is None else best.offset_us

    @property
    def round_trip_us(self) -> int | None:
        """Round trip of the ping that the offset is from, without the server's time. The error of
        the offset is at most half of it."""
        best = self._best
        return None if best is None else best.round_trip_us

    def unanswered_us(self, now_us: int) -> int:
        """Returns how long the newest ping has waited for its answer, 0 if it has come. Older ones
        do not count: an answer may be lost with its connection."""
        return now_us - self._pending[-1] if self._pending else 0

    def ping(self, now_us: int) -> Ping:
        """Returns the ping to send now."""
        self._pending.append(now_us)
        return Ping(sent_us=now_us)

    def pong(self, pong: Pong, now_us: int) -> bool:
        """Takes an answer. Returns False, and changes nothing, if it cannot be one."""
        round_trip = (now_us - pong.ping_us) - (pong.sent_us - pong.received_us)
        if pong.ping_us not in self._pending or round_trip < 0 or pong.sent_us < pong.received_us:
            self.ignored += 1
            return False
        self._pending.remove(pong.ping_us)
        offset = ((pong.received_us - pong.ping_us) + (pong.sent_us - now_us)) // 2
        self._samples.append(_Sample(now_us, offset, round_trip))
        while now_us - self._samples[0].at_us > self._max_age_us:
            self._samples.popleft()
        self._best = min(self._samples, key=lambda sample: sample.round_trip_us)
        return True

    def to_server(self, local_us: int) -> int:
        """Converts a local time to the server's clock, not wrapped. Raises UsageError before the
        first pong."""
        return local_us + self._known_offset()

    def from_server_wrapped(self, wrapped_us: int, near_us: int) -> int:
        """Converts a reading of the server's clock modulo 2^32 to local time: the one that is
        closest to the local time `near_us`, within 35 minutes. Raises UsageError before the first
        pong."""
        near = near_us + self._known_offset()
        return near_us + wrap_difference(wrapped_us, near, CLOCK_MODULUS)

    def _known_offset(self) -> int:
        if self._best is None:
            raise UsageError("the server's clock is not known before the first pong; see ServerClock.ready")
        return self._best.offset_us
