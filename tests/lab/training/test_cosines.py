"""What a network with widths of its own begins with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from earshot.codec.config import LITE_24KHZ
from earshot.codec.model.network import Encodec
from earshot.lab.training.cosines import cosines, start_on_cosines
from earshot.lab.training.initial import add_weight_norm

STEEP = replace(
    LITE_24KHZ, name="steep", widths=(16, 128, 320, 320), ratios=(1, 8, 40), n_residual_layers=2, dilation_base=1,
    lstm_layers=1,
)  # fmt: skip


def test_cosines_are_orthonormal() -> None:
    assert torch.allclose(cosines(40) @ cosines(40).t(), torch.eye(40), atol=1e-5)


@pytest.mark.parametrize(
    "config", [STEEP, replace(STEEP, ratios=(8, 40), widths=(16, 128, 320))], ids=["compressed", "plain"]
)
@pytest.mark.parametrize("level", [0.1, 0.01])
def test_it_passes_on_what_is_below_the_latents_band(config: object, level: float) -> None:
    """Loud and quiet: the inverse of the compressor fits it."""
    torch.manual_seed(1)
    network = Encodec(config)  # type: ignore[arg-type]
    start_on_cosines(network)
    time = np.arange(24_000) / 24_000
    spoken = sum(np.sin(2 * np.pi * hertz * time + hertz) / hertz for hertz in (150, 300, 450, 900, 1200, 2100, 2850))
    pcm = torch.from_numpy(level * spoken / np.abs(spoken).max()).float()[None, None]
    with torch.no_grad():
        latents, _ = network.encoder.step(pcm, None, "zeros", last=True)
        heard, _ = network.decoder.step(latents, None, "zeros", last=True)
    error = (heard - pcm).square().mean() / pcm.square().mean()
    assert -10 * error.log10() > 6
    assert -2 < 10 * (heard.square().mean() / pcm.square().mean()).log10() < 2


def test_weight_norm_leaves_the_weights_and_lengthens_their_directions() -> None:
    torch.manual_seed(1)
    network = Encodec(STEEP)
    start_on_cosines(network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    add_weight_norm(network)
    first = network.encoder.layers[0]
    assert torch.allclose(first.weight, before["encoder.layers.0.weight"], atol=1e-6)
    assert torch.allclose(first.parametrizations.weight.original1.flatten(1).norm(dim=1), torch.tensor(3.0))
