"""What microphones do to sound: narrow bands, clipping, and stretches with next to nothing. Arrays
[channels, n]."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import signal

from earshot.codec.pcm import Pcm


@lru_cache(maxsize=32)
def _low_pass_filter(cutoff: float, sample_rate: int) -> Pcm:
    taps = 2 * (sample_rate // 200) + 1  # 10 ms: a transition of about 500 Hz, 80 dB down
    return np.asarray(signal.firwin(taps, cutoff, window=("kaiser", 8.0), fs=sample_rate), np.float32)


def low_pass(pcm: Pcm, cutoff: float, sample_rate: int) -> Pcm:
    """Without phase: half the amplitude is left at `cutoff` Hz, nothing some 300 Hz above."""
    taps = _low_pass_filter(cutoff, sample_rate)
    return np.asarray(signal.oaconvolve(pcm, taps[None], mode="same", axes=1), np.float32)


def overload(pcm: Pcm, drive_db: float, hard: bool) -> Pcm:
    """Drives a microphone so far over its full scale, which is the peak of `pcm`: what is above is
    cut off, with corners or without, and the rest is louder than it was. The peak stays where it
    is."""
    peak = np.float32(np.abs(pcm).max())
    if peak <= 0:
        return pcm
    driven = pcm * np.float32(10 ** (drive_db / 20))
    if hard:
        return np.asarray(np.clip(driven, -peak, peak), np.float32)
    soft = np.tanh(driven / peak)
    return np.asarray(soft * (peak / np.abs(soft).max()), np.float32)


def hush(pcm: Pcm, start: float, stop: float, attenuation_db: float, sample_rate: int) -> Pcm:
    """Attenuates from `start` to `stop` (shares of its length), with fades of 5 ms; inf dB leaves
    digital silence."""
    n, fade = pcm.shape[1], max(1, sample_rate // 200)
    inside = np.zeros(n, np.float32)
    inside[int(start * n) : round(stop * n)] = 1
    # A moving mean makes the fades; before the beginning and after the end nothing changes.
    padded = np.pad(inside, (fade // 2, fade - 1 - fade // 2), mode="edge")
    smooth = np.convolve(padded, np.full(fade, 1 / fade, np.float32), mode="valid")
    return pcm * (1 + np.float32(10 ** (-attenuation_db / 20) - 1) * smooth)
