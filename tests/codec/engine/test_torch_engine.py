"""The torch engine against single sessions of the same network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codec.config import ModelConfig
from codec.engine.torch_engine import TorchEngine
from codec.errors import EngineFull, UsageError
from codec.model import Model
from codec.network import Encodec

HOP = 320


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(3)
    network = Encodec(
        ModelConfig(name="tiny", n_filters=4, n_codebooks=16, bandwidths=(1.5, 3.0, 6.0, 12.0), padding="zeros")
    )
    latents, _ = network.encoder.step(torch.randn(1, 1, 24_000), None, "zeros", last=True)
    network.quantizer.codebooks.copy_(torch.randn_like(network.quantizer.codebooks) * float(latents.detach().std()))
    return Model(network)


def test_any_subset_in_any_order_equals_sessions_of_their_own(model: Model) -> None:
    random = np.random.default_rng(0)
    engine = TorchEngine(model, encoders=5, decoders=5)
    rates = [1.5, 3.0, 6.0, 12.0]
    encoders, decoders = [engine.open_encoder() for _ in rates], [engine.open_decoder() for _ in rates]
    lone_encoders, lone_decoders = [model.encoder(kbps) for kbps in rates], [model.decoder() for _ in rates]
    for _ in range(30):
        who = random.permutation(4)[: random.integers(1, 5)]
        pcm = random.standard_normal((len(who), HOP)).astype(np.float32) * 0.1
        codes = engine.encode([encoders[i] for i in who], pcm, [model.config.n_q(rates[i]) for i in who])
        heard = engine.decode([decoders[i] for i in who], codes)
        for row, i in enumerate(who):
            np.testing.assert_array_equal(codes[row], lone_encoders[i].push(pcm[row])[:, 0])
            np.testing.assert_allclose(heard[row], lone_decoders[i].push(codes[row][:, None]), atol=1e-5)


def test_reset_copy_and_reuse_of_slots(model: Model) -> None:
    engine = TorchEngine(model, encoders=2, decoders=1)
    frames = np.random.default_rng(1).standard_normal((6, 1, HOP)).astype(np.float32) * 0.1
    slot = engine.open_encoder()
    first = [engine.encode([slot], frame, [8])[0] for frame in frames]
    engine.reset(slot)
    again = [engine.encode([slot], frame, [8])[0] for frame in frames[:3]]
    np.testing.assert_array_equal(again, first[:3])
    twin = engine.copy(slot)
    both = engine.encode([twin, slot], np.concatenate([frames[3], frames[3]]), [8, 4])
    np.testing.assert_array_equal(both[0], first[3])
    np.testing.assert_array_equal(both[1], first[3][:4])
    with pytest.raises(EngineFull):
        engine.open_encoder()
    engine.close(slot)
    fresh = engine.open_encoder()
    np.testing.assert_array_equal(engine.encode([fresh], frames[0], [8])[0], first[0])


def test_misuse_is_refused_and_changes_nothing(model: Model) -> None:
    engine = TorchEngine(model, encoders=2, decoders=2)
    encoder, decoder = engine.open_encoder(), engine.open_decoder()
    silence = np.zeros((1, HOP), np.float32)
    for wrong in (
        lambda: engine.encode([decoder], silence, [8]),
        lambda: engine.encode([encoder, encoder], np.zeros((2, HOP), np.float32), [8, 8]),
        lambda: engine.encode([encoder], silence[:, :100], [8]),
        lambda: engine.encode([encoder], silence, [17]),
        lambda: engine.decode([decoder], [np.array([1024], np.int16)]),
        lambda: engine.decode([decoder], [np.zeros((2, 2), np.int16)]),
        lambda: engine.close(99),
    ):
        with pytest.raises(UsageError):
            wrong()
    assert engine.encode([], np.zeros((0, HOP), np.float32), []) == []
    np.testing.assert_array_equal(engine.encode([encoder], silence, [8])[0], model.encoder(6.0).push(silence[0])[:, 0])
