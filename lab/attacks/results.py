"""The results of attacks, and what each must fulfil. There is no clock and no process here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MOST_UNDERRUNS = 1
MOST_ADDED_MS = 26.6
"""p99 of what the server adds: two frames."""
LONGEST_JOIN_S = 1.0
LONGEST_HEALTH_S = 0.5
_STATES = {
    "uptime_s", "cpu_s", "model", "frame", "connections", "addresses", "rooms", "more_speakers", "workers", "entropy",
    "recordings", "tasks",
}  # fmt: skip
"""Entries of `/stats` that say how things are, not how often something happened."""
_DOOR_STATES = {"door.open", "door.half_made", "door.waiting"}
_USUAL = {"closed.1000", "closed.1001", "closed.1005", "closed.1006", "changes.told"}
"""Ends that a client brings about, or its network; changes of peers that were passed on."""


@dataclass(frozen=True)
class Row:
    """What one attack did to everyone."""

    attack: str
    underruns: tuple[int, ...]
    """Underruns of each talker during the attack."""
    missing: tuple[int, ...]
    """Frames that each talker did not hear."""
    reconnects: int
    added_p99_ms: float | None
    """p99 of what the server added to the frames of another pair; None if none came through."""
    lost: int
    """Frames that this pair lost."""
    join_s: float | None
    """The longest that a newcomer from another address waited; None if none came in."""
    join_failures: tuple[str, ...]
    health_s: float | None
    health_failures: tuple[str, ...]
    attacker: dict[str, Any] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)
    """What `/stats` counted meanwhile."""
    fault: str = ""
    """Why there are no other figures, if something broke."""

    @property
    def limited(self) -> bool:
        """Whether `/stats` counted that the attacker was closed or limited."""
        return any(name not in _USUAL for name in self.counted)

    def faults(self) -> list[str]:
        """Says what was not as it must be."""
        said = [self.fault] if self.fault else []
        if max(self.underruns, default=MOST_UNDERRUNS + 1) > MOST_UNDERRUNS:
            said.append("underruns")
        if self.reconnects:
            said.append("a talker lost its connection")
        if self.added_p99_ms is None or self.added_p99_ms >= MOST_ADDED_MS:
            said.append("p99")
        if self.join_failures or self.join_s is None or self.join_s > LONGEST_JOIN_S:
            said.append("newcomer")
        if self.health_failures or self.health_s is None or self.health_s > LONGEST_HEALTH_S:
            said.append("healthz")
        if self.attack != "nothing" and not self.limited:
            said.append("not limited")
        return said

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"faults": self.faults()}


def counted(before: Mapping[str, Any], after: Mapping[str, Any], honest: Mapping[int, int]) -> dict[str, int]:
    """Returns the counters of two answers of `/stats` that grew, and by how much. How often each
    close code went to an honest client, `honest`, does not count."""
    old = dict(_numbers(before))
    grown = {name: int(value - old.get(name, 0)) for name, value in _numbers(after)}
    for code, times in honest.items():
        grown[f"closed.{code}"] = grown.get(f"closed.{code}", 0) - times
    return {name: more for name, more in grown.items() if more > 0}


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if (not prefix and name in _STATES) or prefix + name in _DOOR_STATES:
            continue
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", value
