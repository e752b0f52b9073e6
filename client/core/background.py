"""The background of a speaker who says nothing: what it sounds like in a few bytes
(docs/protocol.md, "Silence"), and noise that sounds like it."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from earshot.codec.pcm import Pcm
from earshot.protocol.silence import BANDS, BANDS_HZ, NOTHING, STEP_DB

MEMORY = 0.9
"""Share of the levels that is left after a frame."""
LOOP = 1 << 15
"""Samples after which the noise begins anew (1.4 s)."""
FADE_S = 0.01
AGAIN_S = 1
"""Time between two changes of the noise at least."""
SILENCE = bytes([NOTHING] * BANDS)


class BackgroundMeter:
    """Measures the levels of a speaker's background."""

    def __init__(self, sample_rate: int, hop: int) -> None:
        self._powers: NDArray[np.float64] | None = None
        self._bins = _edges(sample_rate, hop)
        self._scale = 2.0 / hop**2

    def take(self, frame: Pcm) -> None:
        """Takes a frame [hop] in which nobody speaks."""
        spectrum = np.abs(np.fft.rfft(frame)) ** 2
        powers = np.array([spectrum[a:b].sum() for a, b in self._bins]) * self._scale
        self._powers = powers if self._powers is None else MEMORY * self._powers + (1 - MEMORY) * powers

    @property
    def levels(self) -> bytes:
        """The level of each band, as a sign of silence tells it."""
        if self._powers is None:
            return SILENCE
        decibels = 10 * np.log10(np.maximum(self._powers, 1e-30))
        return bytes(int(step) for step in np.clip(np.rint(-decibels / STEP_DB), 0, NOTHING))


class ComfortNoise:
    """Plays noise of given levels where nothing else is played. The same levels always make the
    same noise."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._slope = np.float32(1 / (FADE_S * sample_rate))
        self._told = self._levels = SILENCE
        self._loop: Pcm | None = None
        self._at = 0
        self._gain = 0.0
        self._made_ago = AGAIN_S * sample_rate
        """Samples that were played since the noise was made."""

    def describe(self, levels: bytes) -> None:
        """Sets the level of each band. They count once there is noise to be played, and not sooner
        than a second after the ones before: to make noise takes a millisecond, and a speaker may
        tell of other levels with every frame."""
        self._told = levels
        if levels == SILENCE:
            self._levels, self._loop = levels, None

    def add(self, pcm: Pcm, silent: NDArray[np.bool_]) -> None:
        """Adds noise to `pcm`, in place, where it is `silent`, with short fades."""
        self._made_ago += pcm.size
        if self._told != self._levels and self._made_ago >= AGAIN_S * self._sample_rate and silent.any():
            self._levels, self._made_ago = self._told, 0
            self._loop = _noise(self._levels, self._sample_rate)
        if self._loop is None or not (self._gain or silent.any()):
            return
        turns = [0, *(np.flatnonzero(np.diff(silent)) + 1), pcm.size]
        for start, end in pairwise(turns):
            steps = np.arange(1, end - start + 1, dtype=np.float32) * self._slope
            gains = np.clip(self._gain + (steps if silent[start] else -steps), 0, 1)
            where = (self._at + np.arange(start, end)) % LOOP
            pcm[start:end] += self._loop[where] * gains
            self._gain = float(gains[-1])
        self._at = (self._at + pcm.size) % LOOP


def _edges(sample_rate: int, size: int) -> list[tuple[int, int]]:
    """Returns the bins of each band in the spectrum of `size` samples. The lowest band has no
    constant part."""
    bins = [max(math.ceil(hertz * size / sample_rate), 1) for hertz in BANDS_HZ]
    return [(bins[band], min(bins[band + 1], size // 2)) for band in range(BANDS)]


@cache
def _white() -> NDArray[np.complex128]:
    """Returns the spectrum of noise whose power is the same in every bin."""
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, LOOP // 2 + 1)
    return np.asarray(np.exp(1j * phases))


def _noise(levels: bytes, sample_rate: int) -> Pcm:
    """Returns a loop of noise."""
    shape = np.zeros(LOOP // 2 + 1)
    for (first, end), level in zip(_edges(sample_rate, LOOP), levels, strict=True):
        if level != NOTHING and end > first:
            power = 10 ** (-level * STEP_DB / 10)
            shape[first:end] = math.sqrt(power / (end - first) / 2) * LOOP
    return np.asarray(np.fft.irfft(shape * _white(), LOOP), dtype=np.float32)
