"""Measures of decoded speech beside its original, each a function of two signals of the same
length."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.signal import stft

from earshot.codec.pcm import Pcm
from earshot.lab.evaluation.listeners import predicted_by_distillmos, predicted_by_dnsmos
from earshot.lab.mel import averaging_mel_filters

Value = float | None
"""None where a measure has no value, for example of silence."""
Compute = Callable[[Pcm, Pcm, int], Value]
"""(original, decoded, sample rate) of two signals [n]."""

WIDE_BAND = 16_000
FULL_BAND = 48_000
MOST_DB = 100.0
"""Ratios are held within plus and minus this, so that identical signals have one."""
MEL_BANDS, MEL_WINDOW, MEL_HOP, MEL_RANGE_DB = 80, 1024, 256, 60.0


@dataclass(frozen=True)
class Measure:
    key: str
    label: str
    unit: str
    digits: int
    better: str
    """"higher", "lower" or "zero"."""
    meaning: str
    compute: Compute | None = None
    """None for word errors, which are counted over clips (lab/evaluation/words.py)."""
    packages: tuple[str, ...] = ()
    """The modules that must be installed, by the names they are imported by."""
    extra: str = "evaluate"
    """The extra of Earshot that installs it."""
    limits: tuple[float | None, float | None] = (None, None)
    """The least and the greatest value that it can have."""
    alone: bool = False
    """Whether it judges what is heard by itself, so that the original has a value too."""

    @property
    def installed(self) -> bool:
        """Returns whether the packages that it needs are installed."""
        return all(importlib.util.find_spec(package) is not None for package in self.packages)


def rms(pcm: Pcm) -> float:
    """Returns the root mean square of a signal; 0 for an empty one."""
    return float(np.sqrt(np.mean(np.square(pcm, dtype=np.float64)))) if pcm.size else 0.0


def decibels(ratio: float) -> float:
    """Returns the ratio of two amplitudes in dB, within plus and minus MOST_DB."""
    return float(np.clip(20 * np.log10(max(ratio, 1e-20)), -MOST_DB, MOST_DB))


def si_snr(original: Pcm, decoded: Pcm, sample_rate: int = 0) -> Value:
    """Returns the scale-invariant signal-to-noise ratio in dB, means removed (Le Roux et al.
    2019)."""
    spoken, heard = (pcm.astype(np.float64) - pcm.mean(dtype=np.float64) for pcm in (original, decoded))
    power = float(spoken @ spoken)
    if power == 0:
        return None
    target = spoken * (float(heard @ spoken) / power)
    return decibels(float(np.linalg.norm(target)) / max(float(np.linalg.norm(heard - target)), 1e-20))


def level(original: Pcm, decoded: Pcm, sample_rate: int = 0) -> Value:
    """Returns how much louder the decoded signal is, in dB of the whole clip's RMS."""
    spoken = rms(original)
    return decibels(rms(decoded) / spoken) if spoken else None


def mel_distance(original: Pcm, decoded: Pcm, sample_rate: int) -> Value:
    """Returns the mean absolute difference of two mel spectrograms in dB.

    They are magnitudes of 80 mel bands up to half the sample rate, with Hann windows of 1024
    samples every 256. What lies more than 60 dB under the original's loudest band counts as 60 dB
    under it."""
    spoken, heard = _mel(original, sample_rate), _mel(decoded, sample_rate)
    floor = spoken.max(initial=0.0) * 10 ** (-MEL_RANGE_DB / 20)
    if floor == 0:
        return None
    return float(np.mean(np.abs(20 * np.log10(np.maximum(heard, floor) / np.maximum(spoken, floor)))))


@cache
def _mel_filters(sample_rate: int) -> NDArray[np.float64]:
    return averaging_mel_filters(MEL_WINDOW, MEL_BANDS, sample_rate)


def _mel(pcm: Pcm, sample_rate: int) -> NDArray[np.float64]:
    padded = np.pad(pcm.astype(np.float64), (0, max(0, MEL_WINDOW - pcm.size)))
    _, _, spectrum = stft(padded, window="hann", nperseg=MEL_WINDOW, noverlap=MEL_WINDOW - MEL_HOP)
    return np.asarray(_mel_filters(sample_rate) @ np.abs(spectrum), np.float64)


def stoi(original: Pcm, decoded: Pcm, sample_rate: int) -> Value:
    """Returns the short-time objective intelligibility, 0..1 (Taal et al. 2011); None for clips
    with less than 0.4 s of speech."""
    from pystoi import stoi as compute

    if not original.any():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # that is how the package says that there is too little speech
        try:
            return float(compute(original, decoded, sample_rate))
        except (RuntimeWarning, ValueError):
            return None


def pesq(original: Pcm, decoded: Pcm, sample_rate: int) -> Value:
    """Returns wide-band PESQ, about 1..4.64 (ITU-T P.862.2); None where it finds no speech in the
    original."""
    from pesq import PesqError
    from pesq import pesq as compute

    if not original.any() or not decoded.any():
        return None
    try:
        return float(compute(WIDE_BAND, *_resampled(original, decoded, sample_rate, WIDE_BAND), "wb"))
    except (PesqError, ValueError):
        return None


def visqol(original: Pcm, decoded: Pcm, sample_rate: int) -> Value:
    """Returns ViSQOL in its audio mode, 1..4.73 (Chinen et al. 2020); it takes about as long as the
    sound."""
    if not original.any():
        return None
    spoken, heard = (pcm.astype(np.float64) for pcm in _resampled(original, decoded, sample_rate, FULL_BAND))
    try:
        return float(_visqol_api().measure_from_arrays(spoken, heard, FULL_BAND).moslqo)
    except (ValueError, RuntimeError, IndexError):  # clips shorter than a patch
        return None


@cache
def _visqol_api() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="audio")
    return api


def distillmos(original: Pcm, decoded: Pcm, sample_rate: int) -> Value:
    """Returns the listeners' mean opinion that DistillMOS predicts of what is decoded, 1..5 (Stahl
    and Gamper 2025)."""
    return predicted_by_distillmos(_wide(decoded, sample_rate)) if original.any() else None


def dnsmos(original: Pcm, decoded: Pcm, sample_rate: int) -> Value:
    """Returns the overall quality that DNSMOS predicts of what is decoded, 1..5 (Reddy et al. 2022,
    P.835)."""
    return predicted_by_dnsmos(_wide(decoded, sample_rate)) if original.any() else None


def _wide(pcm: Pcm, sample_rate: int) -> Pcm:
    return pcm if sample_rate == WIDE_BAND else soxr.resample(pcm, sample_rate, WIDE_BAND)


def _resampled(original: Pcm, decoded: Pcm, sample_rate: int, wanted: int) -> tuple[Pcm, Pcm]:
    if sample_rate == wanted:
        return original, decoded
    return soxr.resample(original, sample_rate, wanted), soxr.resample(decoded, sample_rate, wanted)


WER, WORD_CHANGES = "wer", "word_changes"

MEASURES = (
    Measure("stoi", "STOI", "", 3, "higher", "short-time objective intelligibility", stoi, ("pystoi",), limits=(0, 1)),
    Measure("pesq", "PESQ-WB", "", 2, "higher", "wide-band PESQ, ITU-T P.862.2", pesq, ("pesq",), limits=(1, 4.65)),
    Measure("visqol", "ViSQOL", "", 2, "higher", "ViSQOL, audio mode", visqol, ("visqol",), "visqol", (1, 4.75)),
    Measure(
        "distillmos", "DistillMOS", "", 2, "higher", "what listeners would say, predicted by DistillMOS", distillmos,
        ("distillmos", "xls_r_sqa"), "mos", (1, 5), alone=True,
    ),
    Measure(
        "dnsmos", "DNSMOS", "", 2, "higher", "what listeners would say, predicted by DNSMOS: OVRL", dnsmos,
        ("speechmos", "onnxruntime"), "mos", (1, 5), alone=True,
    ),
    Measure("si_snr", "SI-SNR", "dB", 1, "higher", "scale-invariant signal-to-noise ratio", si_snr),
    Measure(
        "mel", "mel dist.", "dB", 1, "lower", "mean absolute difference of 80-band mel spectra", mel_distance,
        limits=(0, None),
    ),
    Measure("level", "level", "dB", 1, "zero", "RMS of the decoded over that of the original", level),
    Measure(
        WER, "WER", "%", 0, "lower", "word errors against the transcripts that came with the clips",
        packages=("pocketsphinx",), limits=(0, None),
    ),
    Measure(
        WORD_CHANGES, "words changed", "%", 0, "lower",
        "word errors against what was recognised in the original, for clips that came without a transcript",
        packages=("pocketsphinx",), limits=(0, None),
    ),
)  # fmt: skip
BY_KEY = {measure.key: measure for measure in MEASURES}


def what_is_missing(measures: Sequence[Measure], others: Mapping[str, str] | None = None) -> str | None:
    """Says in one line what is left out because a package is missing, and how to install it; None
    if nothing is.

    `others` names what else is missing, and the extra that installs it."""
    missing = [(measure.label, measure.extra) for measure in measures if not measure.installed]
    missing += (others or {}).items()
    if not missing:
        return None
    names = ", ".join(name for name, _ in missing)
    extras = ",".join(dict.fromkeys(extra for _, extra in missing))
    return f"left out, because their packages are not installed: {names}; pip install 'earshot[{extras}]'"
