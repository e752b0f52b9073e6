"""The low anchor of a listening test: a sound with the bandwidth of a telephone."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from earshot.codec.errors import UsageError

PASS_HZ, STOP_HZ = 3500.0, 4000.0
ATTENUATION_DB = 60.0
"""BS.1534-3 asks for 3.5 kHz, ripple at most 0.1 dB, at least 25 dB down at 4 kHz and 50 dB at 4.5
kHz. A window as deep as this ripples by 0.009 dB."""


def low_pass(pcm: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Removes what is above 3.5 kHz from [n, channels]. The filter is symmetric and centred, so
    nothing is late.

    Raises UsageError for sample rates of 8 kHz and less, which have nothing to take away."""
    if sample_rate <= 2 * STOP_HZ:
        raise UsageError(f"sound at {sample_rate} Hz cannot have an anchor of 3.5 kHz; it takes more than 8000 Hz")
    # Kaiser's estimate of the length (Oppenheim and Schafer, "Discrete-Time Signal Processing",
    # section 7.5.3).
    width = 2 * math.pi * (STOP_HZ - PASS_HZ) / sample_rate
    half = math.ceil((ATTENUATION_DB - 7.95) / (2.285 * width) / 2)
    taps = signal.firwin(
        2 * half + 1,
        (PASS_HZ + STOP_HZ) / 2,
        window=("kaiser", signal.kaiser_beta(ATTENUATION_DB)),
        fs=sample_rate,
    )
    padded = np.pad(pcm.astype(np.float64), ((half, half), (0, 0)))
    return np.asarray(signal.oaconvolve(padded, taps[:, None], mode="valid", axes=0), np.float32)
