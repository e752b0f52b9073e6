"""Steps as matrix products against the layers of codec/model/network.py: equal codes, and sound
within 1e-5."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from earshot import codec
from earshot.codec.engine.torch import step as torch_step
from earshot.codec.engine.torch.engine import TorchEngine
from earshot.codec.engine.torch.step import CPU, Weights, lay_out
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from tests.codec.engine.conftest import ODD

STREAMS = 30


def by_the_network(model: Model, pcm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes pcm [B, T] in steps of a few frames. Returns codes [B, n_q, F] and sound [B, T] of all
    streams."""
    network, caches, heard = model.network, (None, None), []
    codes: list[torch.Tensor] = []
    with torch.inference_mode():
        for part in torch.from_numpy(pcm)[:, None].split(7 * model.hop_length, dim=2):
            latents, moved = network.encoder.step(part, caches[0], "zeros", last=False)
            codes.append(network.quantizer.encode(latents, model.config.n_codebooks))
            y, sounded = network.decoder.step(network.quantizer.decode(codes[-1]), caches[1], "zeros", last=False)
            heard.append(y[:, 0])
            caches = (moved, sounded)
    return torch.cat(codes, dim=2).numpy(), torch.cat(heard, dim=1).numpy()


@pytest.mark.parametrize("name", ["default", "full"])
def test_48000_codes_of_speech_are_those_of_the_network(name: str, full_model: Model, speech: Pcm) -> None:
    model = codec.load("default", engine="torch") if name == "default" else full_model
    n_q, hop = model.config.n_codebooks, model.hop_length
    loud = np.concatenate([speech, -0.3 * speech]) if n_q < 32 else speech
    pcm = loud[: loud.size // (STREAMS * hop) * STREAMS * hop].reshape(STREAMS, -1)
    expected, sound = by_the_network(model, pcm)
    assert expected.size >= 48_000
    assert len(np.unique(expected)) > 300
    engine = TorchEngine(model)
    encoders = [engine.open_encoder() for _ in range(STREAMS)]
    decoders = [engine.open_decoder() for _ in range(STREAMS)]
    wrong, apart = 0, 0.0
    for index in range(pcm.shape[1] // hop):
        here = slice(index * hop, (index + 1) * hop)
        codes = engine.encode(encoders, pcm[:, here], [n_q] * STREAMS)
        wrong += int((np.stack(codes) != expected[:, :, index]).sum())
        heard = engine.decode(decoders, list(expected[:, :, index].astype(np.int16)))
        apart = max(apart, float(np.abs(heard - sound[:, here]).max()))
    assert wrong == 0
    assert apart < 1e-5


@pytest.mark.parametrize("name", ODD)
def test_shapes_of_every_kind(name: str, odd_models: dict[str, Model]) -> None:
    model = odd_models[name]
    hop, n_q = model.hop_length, model.config.n_codebooks
    pcm = np.random.default_rng(0).standard_normal((3, 40 * hop)).astype(np.float32) * 0.3
    expected, sound = by_the_network(model, pcm)
    assert len(np.unique(expected)) > 1
    engine = TorchEngine(model, 3, 3)
    encoders, decoders = [engine.open_encoder() for _ in range(3)], [engine.open_decoder() for _ in range(3)]
    for index in range(40):
        here = slice(index * hop, (index + 1) * hop)
        codes = engine.encode(encoders, pcm[:, here], [n_q] * 3)
        np.testing.assert_array_equal(np.stack(codes), expected[:, :, index])
        heard = engine.decode(decoders, codes)
        np.testing.assert_allclose(heard, sound[:, here], atol=1e-5 * max(1.0, float(np.abs(sound).max())))


def test_builds_of_torch_without_onednn(odd_models: dict[str, Model], monkeypatch: pytest.MonkeyPatch) -> None:
    network = odd_models["two of everything"].network
    packed = Weights(network, CPU)
    monkeypatch.setattr(torch_step, "_onednn", lambda: False)
    plain = Weights(network, CPU)
    pcm = torch.randn(3, 2 * network.config.hop_length, 1)
    with torch.inference_mode():
        latents = [w.encoder.step(pcm, torch.zeros(3, w.encoder.size))[0] for w in (packed, plain)]
        torch.testing.assert_close(latents[1], latents[0])
        codes = [w.codebooks.encode(latents[0][:, 1], 5) for w in (packed, plain)]
        assert torch.equal(codes[1], codes[0])


def test_weights_are_laid_out_once(tiny_model: Model) -> None:
    assert lay_out(tiny_model.network) is lay_out(tiny_model.network, CPU)
    assert TorchEngine(tiny_model, 1, 1)._codebooks is TorchEngine(tiny_model, 1, 1)._codebooks
