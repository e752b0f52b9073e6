"""What engines have in common: the table of open slots, and checks of the arguments of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

import numpy as np

from earshot.codec.config import ModelConfig
from earshot.codec.engine.base import FrameCodes
from earshot.codec.errors import EngineFull, UsageError
from earshot.codec.pcm import Pcm

Kind = Literal["encoder", "decoder"]
State = TypeVar("State")


class Slots(Generic[State]):
    """The open slots of an engine and the state behind each. Numbers are never used twice."""

    def __init__(self, encoders: int, decoders: int) -> None:
        self._size: dict[Kind, int] = {"encoder": encoders, "decoder": decoders}
        self._free = dict(self._size)
        self._open: dict[int, tuple[Kind, State]] = {}
        self._last = 0

    def check_room(self, kind: Kind) -> None:
        if not self._free[kind]:
            raise EngineFull(f"all {self._size[kind]} {kind} slots are taken")

    def add(self, kind: Kind, state: State) -> int:
        self.check_room(kind)
        self._free[kind] -= 1
        self._last += 1
        self._open[self._last] = (kind, state)
        return self._last

    def remove(self, slot: int) -> tuple[Kind, State]:
        kind, state = self.find(slot)
        del self._open[slot]
        self._free[kind] += 1
        return kind, state

    def find(self, slot: int) -> tuple[Kind, State]:
        if slot not in self._open:
            raise UsageError(f"slot {slot} is not open")
        return self._open[slot]

    def states(self, slots: Sequence[int], kind: Kind) -> list[State]:
        """Returns the states of the slots of one step."""
        found = [self.find(slot) for slot in slots]
        if len(set(slots)) != len(slots) or any(own != kind for own, _ in found):
            raise UsageError(f"slots of one step must be distinct {kind} slots")
        return [state for _, state in found]


def check_frames(config: ModelConfig, count: int, frames: Pcm, n_q: Sequence[int]) -> None:
    """Raises UsageError unless `frames` and `n_q` are what `count` encoder slots can step over."""
    if np.shape(frames) != (count, config.hop_length) or len(n_q) != count:
        raise UsageError(f"{count} slots need [{count}, {config.hop_length}] samples and as many n_q")
    if np.asarray(frames).dtype.kind != "f":
        raise UsageError(f"samples must be floats, not {np.asarray(frames).dtype}")
    if not np.isfinite(frames).all():
        raise UsageError("samples must be finite")
    if not all(1 <= own <= config.n_codebooks for own in n_q):
        raise UsageError(f"n_q must be in 1..{config.n_codebooks}")


def check_codes(config: ModelConfig, count: int, codes: Sequence[FrameCodes]) -> None:
    """Raises UsageError unless `codes` are what `count` decoder slots can step over."""
    if len(codes) != count or any(not isinstance(own, np.ndarray) or own.ndim != 1 for own in codes):
        raise UsageError(f"{count} slots need as many frames of codes [n_q]")
    for own in codes:
        if not 1 <= len(own) <= config.n_codebooks or own.dtype.kind not in "iu":
            raise UsageError(f"a frame has 1..{config.n_codebooks} whole numbers as codes, not {own!r}")
        if own.min() < 0 or own.max() >= config.codebook_size:
            raise UsageError(f"codes must be in 0..{config.codebook_size - 1}")
