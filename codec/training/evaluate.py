"""How good decoded speech is: objective measures on clips, always through the streaming path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soxr

from codec.errors import ModelError
from codec.model import Model
from codec.pcm import Pcm
from codec.training.data import read_audio

BLOCK_FRAMES = 64
WIDE_BAND = 16_000


@dataclass(frozen=True)
class Score:
    clip: str
    kbps: float
    stoi: float
    """Short-time objective intelligibility, 0..1 (Taal et al. 2011)."""
    pesq: float
    """Wide-band PESQ, about 1..4.6 (ITU-T P.862.2)."""
    si_snr: float
    """Scale-invariant signal-to-noise ratio in dB (Le Roux et al. 2019)."""

    def to_dict(self) -> dict[str, str | float]:
        return asdict(self)


def through_stream(model: Model, pcm: Pcm, kbps: float) -> Pcm:
    """What a listener of a live stream at `kbps` hears of `pcm`, of the same length."""
    encoder, decoder = model.encoder(kbps), model.decoder()
    block = BLOCK_FRAMES * model.hop_length
    heard = [decoder.push(encoder.push(pcm[at : at + block])) for at in range(0, pcm.size, block)]
    heard.append(decoder.push(encoder.flush()))
    return np.concatenate(heard)[: pcm.size]


def si_snr(heard: Pcm, spoken: Pcm) -> float:
    """In dB; both [n], means removed."""
    a, b = heard - heard.mean(), spoken - spoken.mean()
    target = b * float(a @ b) / float(b @ b)
    return float(10 * np.log10(float(target @ target) / max(float((a - target) @ (a - target)), 1e-20)))


def evaluate(model: Model, clips: Sequence[Path], rates: Sequence[float]) -> list[Score]:
    """Every clip at every rate. Raises ModelError if the measuring packages are not installed."""
    try:
        from pesq import pesq
        from pystoi import stoi
    except ImportError as error:
        raise ModelError("measuring needs the packages pesq and pystoi: pip install 'earshot[evaluate]'") from error
    scores = []
    for clip in clips:
        spoken = read_audio(clip, model.sample_rate)
        wide = soxr.resample(spoken, model.sample_rate, WIDE_BAND)
        for kbps in rates:
            heard = through_stream(model, spoken, kbps)
            scores.append(
                Score(
                    clip=clip.name,
                    kbps=kbps,
                    stoi=float(stoi(spoken, heard, model.sample_rate)),
                    pesq=float(pesq(WIDE_BAND, wide, soxr.resample(heard, model.sample_rate, WIDE_BAND), "wb")),
                    si_snr=si_snr(heard, spoken),
                )
            )
    return scores
