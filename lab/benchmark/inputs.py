"""What all candidates get: a model, sound like speech, and the codes that torch computes from
it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from earshot.codec.config import ENCODEC_24KHZ, ModelConfig
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec, without_postfilter
from earshot.codec.pcm import Pcm
from earshot.codec.weights.load import load_model
from earshot.lab.training.initial import initialise

FULL = "full"
PITCHES_HZ = (95.0, 260.0)


@dataclass(frozen=True)
class Inputs:
    """F frames of B streams."""

    pcm: Pcm
    """[F, B, hop]"""
    codes: NDArray[np.int16]
    """[F, B, n_q], by the torch reference."""


def benchmark_model(given: str) -> Model:
    """Loads a model: `full` is the official 24 kHz shape with random weights, anything else is
    loaded as `codec.load` does. Without its postfilter, which nobody else's networks have.

    Raises UsageError for models that do not stream, and what `load_model` raises."""
    model = random_model(ENCODEC_24KHZ) if given == FULL else load_model(given)
    model.config.check_streams()
    return Model(without_postfilter(model.network)) if model.config.postfilter else model


@torch.no_grad()
def random_model(config: ModelConfig) -> Model:
    """Returns a model of random weights that keep the variance, and codebooks of the scale of what
    they have to code, so that every layer and every codebook matters."""
    torch.manual_seed(0)
    network = Encodec(config)
    initialise(network)
    pcm = torch.from_numpy(voices(config, 1, 150)).reshape(1, 1, -1)
    residual = network.encoder.step(pcm, None, "zeros", last=True)[0][0].t()
    for codebook in network.quantizer.codebooks:
        # Of 1024 draws the best is expected at 3.2 deviations: entries that long leave the least.
        codebook.copy_(torch.randn_like(codebook) * residual.pow(2).mean().sqrt() * 3.2 / config.dimension**0.5)
        residual = residual - codebook[torch.cdist(residual, codebook).argmin(dim=1)]
    return Model(network)


def voices(config: ModelConfig, streams: int, frames: int) -> Pcm:
    """Makes sound with the pitch, the syllables and the level of speech, another in each stream:
    [F, B, hop]."""
    random = np.random.default_rng(1)
    t = np.arange(frames * config.hop_length) / config.sample_rate
    heard = np.empty((streams, t.size), np.float32)
    for own in heard:
        pitch = random.uniform(*PITCHES_HZ) * (1 + 0.15 * np.sin(2 * np.pi * random.uniform(0.5, 1) * t))
        phase = 2 * np.pi * np.cumsum(pitch) / config.sample_rate
        buzz = sum(np.sin(k * phase + random.uniform(0, 6)) / k for k in range(1, 20))
        syllables = np.clip(0.5 + np.sin(2 * np.pi * random.uniform(2, 4) * t + random.uniform(0, 6)), 0, None)
        own[:] = 0.06 * syllables * buzz + 0.01 * random.standard_normal(t.size)
    return np.ascontiguousarray(heard.reshape(streams, frames, -1).swapaxes(0, 1))


@torch.inference_mode()
def inputs_of(model: Model, streams: int, frames: int, n_q: int) -> Inputs:
    pcm = voices(model.config, streams, frames)
    whole = torch.from_numpy(pcm.swapaxes(0, 1).reshape(streams, 1, -1).copy())
    latents, _ = model.network.encoder.step(whole, None, "zeros", last=True)
    codes = model.network.quantizer.encode(latents, n_q)
    return Inputs(pcm, np.ascontiguousarray(codes.permute(2, 0, 1).numpy().astype(np.int16)))


def cycled(frames: NDArray[Any]) -> cycle[NDArray[Any]]:
    """Yields the frames one after the other, without end."""
    return cycle(list(frames))
