"""What is heard of a speaker while its next frame has not come: a copy of the decoder goes on from
repeated codes, ever more quietly. The decoder itself waits for the true frames, so that nothing is
skipped behind its back."""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from earshot.client.core.fade import FADE_S
from earshot.codec.pcm import Pcm

COARSE = 8
"""Codebooks that are repeated, at most."""
FALL_DB = 2.0
"""How much quieter each frame is than the one before it."""
MOST_FRAMES = 8
"""After so many frames there is nothing left to hear."""


@runtime_checkable
class Forkable(Protocol):
    """A decoder that can be copied in the middle of a stream."""

    def copy(self) -> Self:
        """Returns an independent decoder that goes on from the same point."""
        ...

    def push(self, codes: NDArray[np.int16], /) -> Pcm:
        """Decodes [n_q, k] codes to [hop * k] samples."""
        ...


class Concealment:
    """Goes on with the sound of one speaker for a few frames."""

    def __init__(self, sample_rate: int, hop: int) -> None:
        self._hop = hop
        self._fade = round(FADE_S * sample_rate)
        self._decoder: Forkable | None = None
        self._codes: NDArray[np.int16] = np.zeros((1, 1), np.int16)
        self._made = 0
        self._pcm: Pcm = np.zeros(0, np.float32)

    @property
    def active(self) -> bool:
        """Whether there is something to hear."""
        return self._decoder is not None

    def begin(self, decoder: Forkable, codes: NDArray[np.int16]) -> None:
        """Goes on where a decoder is, after a frame of these codes [n_q]."""
        self._decoder, self._codes = decoder.copy(), codes[:COARSE, None]
        self._made, self._pcm = 0, np.zeros(0, np.float32)

    def add(self, pcm: Pcm) -> None:
        """Adds what comes next to `pcm`, in place."""
        while self._pcm.size < pcm.size and self._decoder is not None and self._made < MOST_FRAMES:
            self._pcm = np.concatenate([self._pcm, self._decoder.push(self._codes) * self._gains()])
            self._made += 1
        count = min(self._pcm.size, pcm.size)
        pcm[:count] += self._pcm[:count]
        self._pcm = self._pcm[count:]
        if self._made == MOST_FRAMES and not self._pcm.size:
            self._decoder = None

    def end(self, pcm: Pcm) -> None:
        """Fades out under `pcm`, the true sound that has come now, which fades in."""
        under = np.zeros(self._fade, np.float32)
        self.add(under)
        under *= np.arange(self._fade - 1, -1, -1, dtype=np.float32) / np.float32(self._fade)
        count = min(self._fade, pcm.size)
        pcm[:count] += under[:count]
        self._decoder = None

    def _gains(self) -> Pcm:
        places = self._made + np.arange(self._hop, dtype=np.float32) / np.float32(self._hop)
        gains = 10 ** (-FALL_DB * places / 20)
        if self._made == MOST_FRAMES - 1:
            gains *= np.arange(self._hop, 0, -1, dtype=np.float32) / np.float32(self._hop)
        return np.asarray(gains, np.float32)
