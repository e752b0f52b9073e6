"""The interface of every engine: it holds the state of many live streams in numbered slots, and
steps any of them together.

Streams start on zeros. Several threads may step at once, each over other slots (the engine `cuda`
is for one thread only). All other calls are for one thread at a time, and for slots that no thread
is stepping. A frame that is stepped together with others gives the same codes as one stepped alone,
up to ties in rounding. A call that raises has changed nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from earshot.codec.pcm import Pcm

FrameCodes = NDArray[np.int16]
"""The codes of one frame, [n_q]."""


class Engine(Protocol):
    def open_encoder(self) -> int:
        """Opens a slot for a new stream from PCM to codes. Raises EngineFull."""
        ...

    def open_decoder(self) -> int:
        """Opens a slot for a new stream from codes to PCM. Raises EngineFull."""
        ...

    def close(self, slot: int) -> None:
        """Frees a slot. Like all methods below, it raises UsageError for a slot that is not
        open."""
        ...

    def reset(self, slot: int) -> None:
        """Goes back to the start of a stream."""
        ...

    def copy(self, slot: int) -> int:
        """Opens a slot that continues from the same point. Raises EngineFull."""
        ...

    def save(self, slot: int) -> bytes:
        """Returns the whole state of a stream."""
        ...

    def restore(self, slot: int, data: bytes) -> None:
        """Continues from what `save` returned for a slot of the same kind, engine and shape of
        model. Raises UsageError for anything else."""
        ...

    def encode(self, slots: Sequence[int], frames: Pcm, n_q: Sequence[int]) -> list[FrameCodes]:
        """Encodes one frame for each of B distinct encoder slots: samples [B, hop] in -1..1 to B
        arrays of codes [n_q[i]]. Raises UsageError for samples that are not finite."""
        ...

    def decode(self, slots: Sequence[int], codes: Sequence[FrameCodes]) -> Pcm:
        """Decodes one frame for each of B distinct decoder slots: B arrays of codes [n_q] to
        samples [B, hop]."""
        ...
