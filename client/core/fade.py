"""The fade with which a speaker's sound begins after silence."""

from __future__ import annotations

import numpy as np

from earshot.codec.pcm import Pcm

FADE_S = 0.005


class FadeIn:
    """Lets the first samples after `begin` rise from silence to full volume."""

    def __init__(self, sample_rate: int) -> None:
        self.length = round(FADE_S * sample_rate)
        """Samples that the fade lasts."""
        self._left = 0

    def begin(self) -> None:
        """Begins anew with the next sample."""
        self._left = self.length

    def apply(self, pcm: Pcm) -> None:
        """Changes the next samples, [n] or [channels, n], in place."""
        rising = min(pcm.shape[-1], self._left)
        if rising:
            done = self.length - self._left
            pcm[..., :rising] *= (np.arange(done, done + rising, dtype=np.float32) + 1) / np.float32(self.length)
            self._left -= rising
