"""The last second of what a speaker said, for a listener that lost its connection and comes
back."""

from __future__ import annotations

from collections import deque

from earshot.protocol.packet import Packet
from earshot.protocol.silence import Silence

KEPT_US = 1_000_000
MOST_KEPT = 128
"""Packets at most, should many come at once; more than one a frame makes in a second."""
COARSE = 2
"""Codebooks that a listener gets of what it has missed."""


class RecentSpeech:
    """Keeps the packets of one speaker for a second, as they came."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, Packet | Silence]] = deque(maxlen=MOST_KEPT)

    def add(self, media: Packet | Silence, now_us: int) -> None:
        """Takes what was said, or that nothing is said for now."""
        self._kept.append((now_us, media))
        while now_us - self._kept[0][0] > KEPT_US:
            self._kept.popleft()

    def since(self, now_us: int) -> list[Packet | Silence]:
        """Returns what was said in the last second, with the coarse codebooks only, and that the
        speaker is silent if it has been for longer."""
        kept = [media for at_us, media in self._kept if now_us - at_us <= KEPT_US]
        if not kept and self._kept and isinstance(self._kept[-1][1], Silence):
            return [self._kept[-1][1]]
        return [media.cut(COARSE) if isinstance(media, Packet) else media for media in kept]
