"""The plan of a listening test: what is rated, and the order in which a rater meets it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from earshot.codec.errors import UsageError

REFERENCE, ANCHOR = "reference", "anchor"
MAX_CONDITIONS = 10
"""The most conditions, hidden reference and anchor among them; each has a digit as its key.
BS.1534-3 wants no more than 12 at a time."""
MAX_CLIPS = 1000


@dataclass(frozen=True)
class Plan:
    """The clips and systems, the same for all raters. Raises UsageError for what cannot be
    tested."""

    clips: tuple[str, ...]
    systems: tuple[str, ...]
    """The systems, without hidden reference and anchor."""
    seed: int = 1

    def __post_init__(self) -> None:
        if not self.clips or not self.systems:
            raise UsageError("a listening test needs at least one clip and one system")
        if len(self.clips) > MAX_CLIPS:
            raise UsageError(f"{len(self.clips)} clips are more than anybody rates; at most {MAX_CLIPS}")
        if len(self.conditions) > MAX_CONDITIONS:
            raise UsageError(
                f"{len(self.systems)} systems do not fit on one page: choose up to {MAX_CONDITIONS - 2} with --systems"
            )
        if reserved := {REFERENCE, ANCHOR} & set(self.systems):
            raise UsageError(f"a system cannot be called {reserved.pop()}: that sound is made by the test itself")
        for name in (*self.clips, *self.systems):
            if not name.isprintable():
                raise UsageError(f"names must be printable, {name!r} is not")

    @property
    def conditions(self) -> tuple[str, ...]:
        """Returns all that is rated of a clip. The hidden reference is last."""
        return (*self.systems, ANCHOR, REFERENCE)

    def clips_for(self, rater: str) -> tuple[str, ...]:
        """Returns the clips in this rater's order."""
        return tuple(shuffled(self.clips, self.seed, rater))

    def conditions_for(self, rater: str, clip: str) -> tuple[str, ...]:
        """Returns the conditions in the order of this rater's page of this clip."""
        return tuple(shuffled(self.conditions, self.seed, rater, clip))


def choose(clips: Sequence[str], count: int | None, seed: int) -> tuple[str, ...]:
    """Returns `count` of the clips by chance, the same for all raters; all of them for None."""
    return tuple(clips if count is None else sorted(shuffled(clips, seed)[:count]))


def shuffled(names: Iterable[str], *key: object) -> list[str]:
    """Returns an order that follows from `key` alone, not from the platform or the version of
    Python."""

    def rank(name: str) -> bytes:
        return hashlib.sha256("\0".join(map(str, (*key, name))).encode()).digest()

    return sorted(names, key=rank)
