"""How loud a block of samples is."""

from __future__ import annotations

import numpy as np

from earshot.codec.pcm import Pcm

SILENCE_DBFS = -96.0


def rms(pcm: Pcm) -> float:
    """Returns the root mean square of samples, 0 of none."""
    return float(np.sqrt(np.mean(np.square(pcm)))) if pcm.size else 0.0


def dbfs(level: float) -> float:
    """Returns a root mean square in decibels of full scale, at least `SILENCE_DBFS`."""
    return max(20 * float(np.log10(level)), SILENCE_DBFS) if level > 0 else SILENCE_DBFS
