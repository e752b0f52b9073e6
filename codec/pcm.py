"""Checks PCM, converts it, and cuts it into frames. All arrays are mono float32 in -1..1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earshot.codec.errors import UsageError

Pcm = NDArray[np.float32]

_S16, _S16_STEP = np.dtype("<i2"), np.float32(1 / 32768)
LARGEST_SAMPLE = 16.0
"""Samples beyond this (24 dB over full scale) cannot be sound; they are limited, so that no layer
overflows."""
MOST_SCALE = 2 * LARGEST_SAMPLE
"""Largest scale that the samples of a window may be multiplied by to restore their volume."""
LIMIT_FROM = 0.8
"""Mixed samples beyond this are bent towards full scale instead of clipped."""


def as_pcm(samples: ArrayLike) -> Pcm:
    """Returns any one-dimensional array of numbers as float32. Raises UsageError for other
    shapes."""
    pcm = np.asarray(samples, dtype=np.float32)
    if pcm.ndim != 1:
        raise UsageError(f"PCM must be one-dimensional (mono), not of shape {pcm.shape}")
    return pcm


def sanitize(pcm: Pcm) -> tuple[Pcm, int]:
    """Replaces NaN and infinite samples by silence and limits impossible ones. Returns the samples
    and how many were changed."""
    good = np.abs(pcm) <= LARGEST_SAMPLE  # False for NaN too
    touched = int(pcm.size - np.count_nonzero(good))
    if not touched:
        return pcm, 0
    finite = np.where(np.isfinite(pcm), pcm, np.float32(0))
    return np.clip(finite, -LARGEST_SAMPLE, LARGEST_SAMPLE), touched


def from_s16(data: bytes | memoryview) -> Pcm:
    """Converts signed 16-bit little-endian samples to PCM. Raises UsageError for an odd number of
    bytes."""
    if len(data) % 2:
        raise UsageError(f"{len(data)} bytes are no whole number of 16-bit samples")
    pcm: Pcm = np.multiply(np.frombuffer(data, _S16), _S16_STEP, dtype=np.float32)
    return pcm


def to_s16(pcm: Pcm) -> bytes:
    """Converts PCM to signed 16-bit little-endian samples. Full scale is 32767; louder samples are
    clipped."""
    return np.rint(np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes()


def soft_limit(mix: Pcm) -> Pcm:
    """Bends samples beyond LIMIT_FROM so that none passes 1, and leaves the others as they are."""
    size = np.abs(mix)
    if not size.size or float(size.max()) <= LIMIT_FROM:
        return mix
    room = 1 - LIMIT_FROM
    bent = LIMIT_FROM + room * np.tanh((size - LIMIT_FROM) / room)
    return np.where(size > LIMIT_FROM, np.copysign(bent, mix), mix).astype(np.float32)


class Framer:
    """Cuts a stream of blocks of any length into whole frames of `hop` samples, and keeps the
    rest."""

    def __init__(self, hop: int) -> None:
        self.hop = hop
        self.rest: Pcm = np.zeros(0, np.float32)

    def push(self, pcm: Pcm) -> Pcm:
        """Takes samples [n]. Returns the frames [k, hop] that they complete."""
        if pcm.size == self.hop and not self.rest.size:
            return pcm[None]
        stream = np.concatenate([self.rest, pcm]) if self.rest.size else pcm
        whole = stream.size - stream.size % self.hop
        self.rest = stream[whole:].copy()
        return stream[:whole].reshape(-1, self.hop)

    def take_rest(self) -> Pcm:
        """Returns the samples of the incomplete frame, and empties the framer."""
        rest, self.rest = self.rest, np.zeros(0, np.float32)
        return rest
