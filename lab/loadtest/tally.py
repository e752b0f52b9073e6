"""Counts what listeners heard: frames heard and lost, and how late they came. It reads no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from earshot.lab.loadtest.wire import Arrival
from earshot.protocol.sequence import SEQUENCE_MODULUS, SequenceTracker

LONGEST_ON_THE_WAY = 75
"""A second of frames. When more than these were sent and neither heard nor counted as lost, the
older ones count as lost."""
TICKS_PER_MS = 10


@dataclass
class Tally:
    """What any number of listeners counted. Each histogram is ticks of 0.1 ms -> frames."""

    heard: int = 0
    lost: int = 0
    added: Counter[int] = field(default_factory=Counter)
    """What the server added: the time from when a frame's last sample was sent to when the server
    handed its packet to the socket. The wait until the server read the message is part of it."""
    inside: Counter[int] = field(default_factory=Counter)
    """The part of `added` after the server had read the message."""
    late: Counter[int] = field(default_factory=Counter)
    """How much later than it was due the generator sent a frame."""

    def add(self, other: Tally) -> None:
        self.heard += other.heard
        self.lost += other.lost
        for own, theirs in ((self.added, other.added), (self.inside, other.inside), (self.late, other.late)):
            own.update(theirs)

    def to_json(self) -> dict[str, Any]:
        histograms = {name: sorted(getattr(self, name).items()) for name in ("added", "inside", "late")}
        return {"heard": self.heard, "lost": self.lost, **histograms}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Tally:
        histograms = {name: Counter(dict(values[name])) for name in ("added", "inside", "late")}
        return cls(values["heard"], values["lost"], **histograms)


def percentile_ms(counts: Mapping[int, int], share: float) -> float | None:
    """Returns the shortest time, in ms, that at least `share` (0..1) of the counted frames took at
    most; None if nothing was counted."""
    total, seen = sum(counts.values()), 0
    for tick in sorted(counts):
        seen += counts[tick]
        if seen >= share * total:
            return tick / TICKS_PER_MS
    return None


class Ear:
    """A listener, and how far it is in the sequence of the one speaker that it hears."""

    def __init__(self) -> None:
        self._sequence = SequenceTracker(SEQUENCE_MODULUS)
        self.heard = 0
        self.lost = 0

    def hear(self, arrival: Arrival, tally: Tally) -> None:
        gap = self._sequence.gap(arrival.sequence)
        self._sequence.expect(arrival.sequence + arrival.frames)
        self.heard += arrival.frames
        self.lost += max(gap, 0)
        tally.heard += arrival.frames
        tally.lost += max(gap, 0)
        if arrival.times is not None:
            framed, _, received, relayed = arrival.times
            tally.added[max(relayed - framed, 0)] += 1
            tally.inside[relayed - received] += 1

    def overdue(self, sent: int) -> int:
        """Returns how many of `sent` frames should have come by now and did not. From then on they
        count as lost."""
        missing = max(sent - self.heard - self.lost - LONGEST_ON_THE_WAY, 0)
        self.lost += missing
        return missing
