"""The official 48 kHz stereo model with random weights, music for it, and ours loaded from its
file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import soxr
import torch

from earshot import codec
from earshot.codec.bitstream import Window
from earshot.codec.config import ENCODEC_48KHZ
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.codec.pcm import Pcm

RATES = [3.0, 6.0, 12.0, 24.0]
WINDOW, STRIDE = 48_000, 47_520


class Stereo(NamedTuple):
    """A model of the official package, and ours loaded from its file."""

    official: Any
    ours: Model
    n_filters: int


def tiny_stereo(seed: int = 5) -> Model:
    """Returns a small random model with the shape of the 48 kHz model, whose codes follow its
    input."""
    torch.manual_seed(seed)
    network = Encodec(replace(ENCODEC_48KHZ, name="tiny_48khz", n_filters=4))
    with torch.no_grad():
        latents, _ = network.encoder.step(torch.randn(1, 2, WINDOW // 4), None, "reflect", last=True)
        residual = latents[0].t()
        for book in network.quantizer.codebooks:
            book.copy_(torch.randn_like(book) * residual.pow(2).mean().sqrt() * 0.28)
            residual = residual - book[torch.cdist(residual, book).argmin(dim=1)]
    return Model(network)


def make_music(speech: Pcm) -> Pcm:
    """Returns 10 s and 300 samples at 48 kHz, [2, n]: two voices that swell and fade, mixed
    differently into both channels."""
    high = np.asarray(soxr.resample(speech, 24_000, WINDOW), np.float32)[: 10 * WINDOW + 300]
    other = high[::-1]
    swell = np.linspace(0.05, 1.5, high.size, dtype=np.float32)
    return np.stack([(0.8 * high + 0.3 * other) * swell, 0.2 * high * swell[::-1] + 0.9 * other])


def official_stereo(encodec: ModuleType, n_filters: int, music: Pcm) -> Any:
    """Returns the official 48 kHz model with random weights. Its norms scale and shift, and its
    codebooks have the scale of what they code, so that all of them matter."""
    torch.manual_seed(n_filters)
    settings = {"channels": 2, "norm": "time_group_norm", "causal": False, "n_filters": n_filters}
    encoder, decoder = encodec.modules.SEANetEncoder(**settings), encodec.modules.SEANetDecoder(**settings)
    quantizer = encodec.quantization.ResidualVectorQuantizer(dimension=128, n_q=16, bins=1024)
    model = encodec.EncodecModel(encoder, decoder, quantizer, RATES, WINDOW, 2, normalize=True, segment=1.0).eval()
    with torch.no_grad():
        for net in (encoder, decoder):
            for module in net.modules():
                if isinstance(module, torch.nn.GroupNorm):
                    module.weight.normal_(1, 0.3)
                    module.bias.normal_(0, 0.3)
        window = torch.from_numpy(music[None, :, :WINDOW])
        residual = encoder(window / window.std())[0].t()
        for layer in quantizer.vq.layers:
            book = layer._codebook.embed
            book.copy_(torch.randn_like(book) * residual.pow(2).mean().sqrt() * 0.28)
            residual = residual - book[torch.cdist(residual, book).argmin(dim=1)]
            layer._codebook.inited.fill_(1)
    return model


def load_stereo(
    encodec: ModuleType, n_filters: int, music: Pcm, save_official: Callable[[Any, Path], Path], folder: Path
) -> Stereo:
    official = official_stereo(encodec, n_filters, music)
    path = save_official(official, folder)
    return Stereo(official, codec.load(str(path)), n_filters)


def official_windows(model: Any, pcm: Pcm, kbps: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    model.set_target_bandwidth(kbps)
    with torch.no_grad():
        encoded: list[tuple[torch.Tensor, torch.Tensor]] = model.encode(torch.from_numpy(pcm)[None])
        return encoded


def check_equal(windows: list[Window], expected: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    assert len(windows) == len(expected)
    for window, (codes, scale) in zip(windows, expected, strict=True):
        np.testing.assert_array_equal(window.codes, codes[0])
        assert window.scale == pytest.approx(float(scale), rel=1e-6)
