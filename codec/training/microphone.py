"""What microphones do to sound: narrow bands, clipping, and stretches with next to nothing. Arrays [channels, n]."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import signal

from codec.pcm import Pcm


@lru_cache(maxsize=32)
def _low_pass_filter(cutoff: float, sample_rate: int) -> Pcm:
    taps = 2 * (sample_rate // 200) + 1  # 10 ms: a transition of about 500 Hz, 80 dB down
    return np.asarray(signal.firwin(taps, cutoff, window=("kaiser", 8.0), fs=sample_rate), np.float32)


def low_pass(pcm: Pcm, cutoff: float, sample_rate: int) -> Pcm:
    """Without phase: half the amplitude is left at `cutoff` Hz, nothing some 300 Hz above."""
    taps = _low_pass_filter(cutoff, sample_rate)
    return np.asarray(signal.oaconvolve(pcm, taps[None], mode="same", axes=1), np.float32)


def overload(pcm: Pcm, below_peak_db: float, hard: bool) -> Pcm:
    """Limits at `below_peak_db` under its own peak, with corners or without; never louder than it was."""
    limit = np.float32(np.abs(pcm).max() * 10 ** (-below_peak_db / 20))
    if limit <= 0:
        return pcm
    return np.clip(pcm, -limit, limit) if hard else limit * np.tanh(pcm / limit)


def hush(pcm: Pcm, start: float, stop: float, attenuation_db: float, sample_rate: int) -> Pcm:
    """Attenuates from `start` to `stop` (shares of its length), with fades of 5 ms; inf dB leaves digital silence."""
    n, fade = pcm.shape[1], max(1, sample_rate // 200)
    inside = np.zeros(n, np.float32)
    inside[int(start * n) : round(stop * n)] = 1
    # A moving mean makes the fades; before the beginning and after the end nothing changes.
    padded = np.pad(inside, (fade // 2, fade - 1 - fade // 2), mode="edge")
    smooth = np.convolve(padded, np.full(fade, 1 / fade, np.float32), mode="valid")
    return pcm * (1 + np.float32(10 ** (-attenuation_db / 20) - 1) * smooth)
