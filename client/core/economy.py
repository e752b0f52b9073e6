"""Spends on less delay what silence saves: who speaks a part of the time only can send fewer frames
in a message, and still costs no more in a minute than speech without a pause costs with more."""

from __future__ import annotations

from collections import deque

from earshot.client.core.traffic import MASK_BYTES, MESSAGE_OVERHEAD_BYTES

WINDOW_US = 60_000_000
"""The time in which it must cost no more. Of what is not known yet it counts as spoken all the
time."""
NOTE_US = 1_000_000
"""How often what was spoken is noted."""
FEWER_AT = 0.9
"""Fewer frames are taken where they would cost this share of what they may."""
HEADER_BITS = 8 * (MESSAGE_OVERHEAD_BYTES + MASK_BYTES + 3)
"""Around the codes of a message."""


class Economy:
    """One direction of one call."""

    def __init__(self, frames_per_s: float) -> None:
        self._frames_per_s = frames_per_s
        self._notes: deque[tuple[int, int]] = deque()
        """Times, and how many frames there had been then."""
        self._frames: int | None = None

    def note(self, frames: int, now_us: int) -> None:
        """Takes note of how many frames were sent, or came, so far."""
        if self._notes and now_us - self._notes[-1][0] < NOTE_US:
            return
        if self._notes and frames < self._notes[-1][1]:  # another connection
            self._notes.clear()
        self._notes.append((now_us, frames))
        while now_us - self._notes[0][0] > WINDOW_US:
            self._notes.popleft()

    @property
    def share(self) -> float:
        """How much of the last minute was spoken; more than 1 if several speak at once."""
        if not self._notes:
            return 1.0
        (first_us, first), (last_us, last) = self._notes[0], self._notes[-1]
        unknown_us = max(WINDOW_US - (last_us - first_us) - NOTE_US, 0)
        return ((last - first) / self._frames_per_s + unknown_us / 1e6) / (WINDOW_US / 1e6)

    def choose(self, most: int, kbps: float) -> int:
        """Returns how many frames a message should hold, where it may be `most` and codes take
        `kbps`."""
        may = self._cost(most, kbps)
        if self._frames is None or self._frames > most:
            self._frames = most
        while self._frames < most and self.share * self._cost(self._frames, kbps) > may:
            self._frames += 1
        while self._frames > 1 and self.share * self._cost(self._frames - 1, kbps) <= FEWER_AT * may:
            self._frames -= 1
        return self._frames

    def _cost(self, frames: int, kbps: float) -> float:
        return kbps + self._frames_per_s / frames * HEADER_BITS / 1000
