"""What a line does to packets, as a rule without a clock or a socket."""

from __future__ import annotations

import random

from earshot.lab.netlab.profiles import Profile


class Impairment:
    """One direction of one line."""

    def __init__(self, profile: Profile, seed: int) -> None:
        self._profile, self._random = profile, random.Random(seed)
        self._free_s = self._last_s = 0.0
        self.lost = 0
        """Packets that never arrive."""

    def arrival(self, now_s: float, size: int) -> float | None:
        """Returns when a packet arrives that is sent now, in seconds since the line was made; None
        if it never does. Calls are in the order of time."""
        profile = self._profile
        at = now_s
        if _within(now_s, profile.cut_every_s, profile.cut_ms) or self._random.random() < profile.loss:
            self.lost += 1
            return None
        if profile.rate_kbps:
            if (self._free_s - now_s) * 1000 > profile.queue_ms:
                self.lost += 1
                return None
            at = self._free_s = max(self._free_s, now_s) + size * 8 / (profile.rate_kbps * 1000)
        at += max(self._random.gauss(profile.delay_ms, profile.jitter_ms), 0.0) / 1000
        if _within(at, profile.stall_every_s, profile.stall_ms):
            at += profile.stall_ms / 1000 - at % profile.stall_every_s
        self._last_s = max(self._last_s, at)
        return self._last_s


def _within(at_s: float, every_s: float, lasts_ms: float) -> bool:
    """Returns whether this is in the first milliseconds of a period, the first period aside."""
    return every_s > 0 and at_s >= every_s and at_s % every_s < lasts_ms / 1000
