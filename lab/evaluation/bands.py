"""Signal-to-noise ratio and level by band: what a codec keeps in phase, and what it leaves too
quiet."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.signal import stft

from earshot.codec.pcm import Pcm
from earshot.lab.evaluation.measures import Measure, Value

EDGES = (0, 250, 500, 1000, 1500, 2000, 3000, 4000, 6000, 8000)
"""Hz; each band reaches from one to the next."""
WINDOW_SECONDS, HOPS = 512 / 24_000, 4
LEAST = 1e-8
"""Share of a clip's energy under which a band of the original holds nothing to judge by: -80 dB."""
MOST_DB = 60.0
"""Values are held within plus and minus this: what is below it is rounding, or silence."""
SNR, LEVEL = "snr", "level"


def band_names() -> list[str]:
    """Returns the names of the bands in Hz, as in `250-500`."""
    return [f"{low}-{high}" for low, high in itertools.pairwise(EDGES)]


def key(what: str, band: str) -> str:
    """Returns the key of the measure `what` (SNR or LEVEL) of a band, as in `snr 250-500`."""
    return f"{what} {band}"


def band_values(original: Pcm, decoded: Pcm, sample_rate: int) -> dict[str, Value]:
    """Returns both measures of every band in dB, by key, from spectra of 21 ms.

    SNR: the energy of the original over that of the difference. Level: the energy of the decoded
    over that of the original. None in bands that the original, or the sample rate, leaves
    empty."""
    spoken, heard = _spectrum(original, sample_rate), _spectrum(decoded, sample_rate)
    hertz = np.linspace(0, sample_rate / 2, spoken.shape[0])
    all_of_it = _energy(spoken)
    values: dict[str, Value] = {}
    for name, (low, high) in zip(band_names(), itertools.pairwise(EDGES), strict=True):
        inside = (hertz >= low) & (hertz < high)
        here = _energy(spoken[inside])
        empty = low >= sample_rate / 2 or here <= LEAST * all_of_it
        values[key(SNR, name)] = None if empty else _db(here, _energy(spoken[inside] - heard[inside]))
        values[key(LEVEL, name)] = None if empty else _db(_energy(heard[inside]), here)
    return values


def _spectrum(pcm: Pcm, sample_rate: int) -> NDArray[np.complex128]:
    size = HOPS * round(WINDOW_SECONDS * sample_rate / HOPS)
    padded = np.pad(pcm.astype(np.float64), (0, max(0, size - pcm.size)))
    return np.asarray(stft(padded, window="hann", nperseg=size, noverlap=size - size // HOPS)[2])


def _energy(spectrum: NDArray[np.complex128]) -> float:
    return float(np.sum(np.square(spectrum.real) + np.square(spectrum.imag)))


def _db(energy: float, other: float) -> float:
    return float(np.clip(10 * np.log10(max(energy, 1e-30) / max(other, 1e-30)), -MOST_DB, MOST_DB))


BANDS = {
    what: [Measure(key(what, band), f"{what}, {band} Hz", "dB", 1, better, meaning) for band in band_names()]
    for what, better, meaning in (
        (SNR, "higher", "energy of the original over that of the difference, in this band"),
        (LEVEL, "zero", "energy of the decoded over that of the original, in this band"),
    )
}
"""The measures of all bands: of SNR and of LEVEL."""
BAND_KEYS = frozenset(measure.key for measures in BANDS.values() for measure in measures)
