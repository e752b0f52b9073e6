"""What is judged: anything that turns speech into what a listener would hear of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.signal import correlate

from earshot.codec.errors import AudioError
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm

BLOCK_FRAMES = 64


class System(Protocol):
    """One codec at one rate. It is pickled and sent to worker processes."""

    @property
    def family(self) -> str:
        """Names the curve of this system: systems of one family are one curve over their rates."""

    @property
    def kbps(self) -> float:
        """Returns the codec rate, without packet headers."""

    def process(self, pcm: Pcm, sample_rate: int) -> Pcm:
        """Returns what is heard of `pcm`: [n] -> [n], aligned in time. Raises AudioError if it
        cannot."""


def system_name(system: System) -> str:
    return f"{system.family}-{system.kbps:g}kbps"


@dataclass(frozen=True)
class Streamed:
    """One of our models, always through its streaming sessions."""

    model: Model
    kbps: float
    family: str = "earshot"

    def process(self, pcm: Pcm, sample_rate: int) -> Pcm:
        if sample_rate != self.model.sample_rate:
            raise AudioError(f"{self.family} takes {self.model.sample_rate} Hz, not {sample_rate}")
        return through_stream(self.model, pcm, self.kbps)


def through_stream(model: Model, pcm: Pcm, kbps: float) -> Pcm:
    """Returns what a listener of a live stream at `kbps` hears of `pcm`, [n] -> [n].

    A stereo model gets the sound in both channels, and its output is mixed."""
    if model.config.window_length is not None:
        return _through_windows(model, pcm, kbps)
    encoder, decoder = model.frame_encoder(kbps), model.frame_decoder()
    block = BLOCK_FRAMES * model.hop_length
    heard = [decoder.push(encoder.push(pcm[at : at + block])) for at in range(0, pcm.size, block)]
    heard += [decoder.push(encoder.flush()), decoder.flush()]
    return np.concatenate(heard)[: pcm.size]


def _through_windows(model: Model, pcm: Pcm, kbps: float) -> Pcm:
    encoder, decoder, channels = model.window_encoder(kbps), model.window_decoder(), model.config.channels
    block = BLOCK_FRAMES * model.hop_length
    both = np.repeat(pcm[None], channels, axis=0)
    heard = [decoder.push(encoder.push(both[:, at : at + block])) for at in range(0, pcm.size, block)]
    heard += [decoder.push(encoder.flush()), decoder.flush()]
    mixed: Pcm = np.concatenate(heard, axis=1)[:, : pcm.size].mean(axis=0)
    return mixed


def best_shift(decoded: Pcm, original: Pcm, most: int) -> int:
    """Returns by how many samples `decoded` comes late (negative: early), where the two correlate
    best; at most `most` either way."""
    size = min(decoded.size, original.size)
    if size == 0:
        return 0
    correlation = correlate(decoded[:size], original[:size], "full", "fft")
    centre = size - 1
    most = min(most, centre)
    return int(np.argmax(correlation[centre - most : centre + most + 1])) - most


def shifted(pcm: Pcm, late: int, size: int) -> Pcm:
    """Moves `pcm` by `late` samples to the front (or, if negative, to the back), cut or filled with
    silence to `size`."""
    moved = np.pad(pcm, (max(0, -late), 0))[max(0, late) :][:size]
    return np.pad(moved, (0, size - moved.size))
