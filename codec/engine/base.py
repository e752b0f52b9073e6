"""What every engine can do: hold the state of many live streams in numbered slots and step any of
them together.

Streams start on zeros. Several threads may step at once, each other slots (one thread only with the
engine `cuda`); all other calls are for one thread at a time, and for slots that nobody steps just
then. A frame stepped in company gives the same codes as one stepped alone, up to ties in rounding.
A call that raises has changed nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from earshot.codec.pcm import Pcm
from numpy.typing import NDArray

FrameCodes = NDArray[np.int16]
"""The codes of one frame, [n_q]."""


class Engine(Protocol):
    def open_encoder(self) -> int:
        """A slot for a new stream of PCM to codes. Raises EngineFull."""
        ...

    def open_decoder(self) -> int:
        """A slot for a new stream of codes to PCM. Raises EngineFull."""
        ...

    def close(self, slot: int) -> None:
        """Frees a slot. Raises UsageError, as all that follows does, for a slot that is not
        open."""
        ...

    def reset(self, slot: int) -> None:
        """Back to the start of a stream."""
        ...

    def copy(self, slot: int) -> int:
        """A new slot that goes on from the same point. Raises EngineFull."""
        ...

    def save(self, slot: int) -> bytes:
        """The whole state of a stream."""
        ...

    def restore(self, slot: int, data: bytes) -> None:
        """Goes on from what `save` returned for a slot of the same kind, engine and shape of model.
        Raises UsageError for anything else."""
        ...

    def encode(self, slots: Sequence[int], frames: Pcm, n_q: Sequence[int]) -> list[FrameCodes]:
        """One frame for each of B distinct encoder slots: [B, hop] samples in -1..1 -> B times
        [n_q[i]] codes. Raises
        UsageError for samples that are not finite."""
        ...

    def decode(self, slots: Sequence[int], codes: Sequence[FrameCodes]) -> Pcm:
        """One frame for each of B distinct decoder slots: B times [n_q] codes -> [B, hop]
        samples."""
        ...
