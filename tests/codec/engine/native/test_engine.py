"""The native engine against the torch engine: equal codes, and sound within 1e-5, for every set of
kernels."""

from __future__ import annotations

import gc
import resource
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from earshot import codec
from earshot.codec.config import LITE_24KHZ, ModelConfig
from earshot.codec.engine.native import _native
from earshot.codec.engine.native.engine import NativeEngine, kernel_names, pack
from earshot.codec.engine.torch.engine import TorchEngine
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.codec.pcm import Pcm
from tests.codec.engine.conftest import KERNELS, ODD

HOP = 320


def frames_of(speech: Pcm, streams: int) -> np.ndarray:
    """Returns frames [time, streams, HOP]: speech that is distributed to streams that speak at
    once."""
    length = speech.size // (streams * HOP) * HOP
    return speech[: streams * length].reshape(streams, -1, HOP).swapaxes(0, 1)


def run(engine: Any, frames: np.ndarray, n_q: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the codes, and the sound that is decoded from the codes of the first engine that ran
    with these frames."""
    streams = frames.shape[1]
    encoders = [engine.open_encoder() for _ in range(streams)]
    decoders = [engine.open_decoder() for _ in range(streams)]
    codes, heard = [], []
    for frame in frames:
        codes.append(np.stack(engine.encode(encoders, frame, [n_q] * streams)))
        heard.append(engine.decode(decoders, list(codes[-1])))
    return np.stack(codes), np.stack(heard)


@pytest.mark.parametrize("name", ["default", "full"])
def test_48000_codes_of_speech_are_those_of_torch(name: str, full_model: Model, speech: Pcm) -> None:
    model = codec.load("default") if name == "default" else full_model
    n_q = model.config.n_codebooks
    loud = np.concatenate([speech, -0.3 * speech]) if n_q < 32 else speech
    frames = frames_of(loud, 30)
    expected, heard = run(TorchEngine(model), frames, n_q)
    assert expected.size >= 48_000
    assert len(np.unique(expected)) > 300
    assert np.abs(heard).max() > 0.05
    for kernels in KERNELS:
        codes, pcm = run(NativeEngine(model, network=pack(model, kernels)), frames, n_q)
        assert int((codes != expected).sum()) == 0, kernels
        assert float(np.abs(pcm - heard).max()) < 1e-5, kernels


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", ODD)
def test_shapes_that_fill_no_vector(name: str, kernels: str, odd_models: dict[str, Model]) -> None:
    model = odd_models[name]
    noise = np.random.default_rng(0).standard_normal((40, 3, model.hop_length)).astype(np.float32) * 0.3
    expected, heard = run(TorchEngine(model), noise, model.config.n_codebooks)
    codes, pcm = run(NativeEngine(model, network=pack(model, kernels)), noise, model.config.n_codebooks)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_allclose(pcm, heard, atol=1e-5 * max(1.0, float(np.abs(heard).max())))


@pytest.mark.parametrize("kernels", KERNELS)
def test_every_batch_gives_the_bits_of_lone_streams(kernels: str, tiny_model: Model, speech: Pcm) -> None:
    random = np.random.default_rng(4)
    network = pack(tiny_model, kernels)
    engine, alone = NativeEngine(tiny_model, network=network), NativeEngine(tiny_model, network=network)
    encoders, lone_encoders = ([e.open_encoder() for _ in range(33)] for e in (engine, alone))
    decoders, lone_decoders = ([e.open_decoder() for _ in range(33)] for e in (engine, alone))
    frames = frames_of(speech, 33)
    for batch in range(1, 34):
        who, n_q = random.permutation(33)[:batch], random.integers(1, 17, batch)
        pcm = frames[batch, who]
        codes = engine.encode([encoders[i] for i in who], pcm, n_q.tolist())
        heard = engine.decode([decoders[i] for i in who], codes)
        for row, i in enumerate(who):
            (own,) = alone.encode([lone_encoders[i]], pcm[row : row + 1], [int(n_q[row])])
            np.testing.assert_array_equal(codes[row], own)
            np.testing.assert_array_equal(heard[row], alone.decode([lone_decoders[i]], [own])[0])


def test_equal_entries_and_dead_codebooks_give_the_first(tiny_model: Model) -> None:
    network = Encodec(tiny_model.config)
    network.load_state_dict(tiny_model.network.state_dict())
    network.quantizer.codebooks[0, 100:] = network.quantizer.codebooks[0, 5]
    network.quantizer.codebooks[1] = 0
    model = Model(network)
    noise = np.random.default_rng(6).standard_normal((100, 1, HOP)).astype(np.float32)
    expected, _ = run(TorchEngine(model), noise, 16)
    assert set(np.unique(expected[:, :, 1])) == {0}
    assert expected[:, :, 0].max() < 100
    for kernels in KERNELS:
        codes, _ = run(NativeEngine(model, network=pack(model, kernels)), noise, 16)
        np.testing.assert_array_equal(codes, expected)


def test_a_thousand_streams_leave_nothing_behind(tiny_model: Model) -> None:
    engine = NativeEngine(tiny_model, encoders=2, decoders=2)
    silence = np.zeros((1, HOP), np.float32)

    def live() -> None:
        encoder, decoder = engine.open_encoder(), engine.open_decoder()
        engine.decode([decoder], engine.encode([encoder], silence, [1]))
        twin = engine.copy(decoder)
        engine.restore(decoder, engine.save(twin))
        for slot in (encoder, decoder, twin):
            engine.close(slot)

    for _ in range(1000):
        live()
    gc.collect()
    objects = len(gc.get_objects())  # made first, because the list takes memory too
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        live()
    gc.collect()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1024, "KiB"
    assert abs(len(gc.get_objects()) - objects) < 50


def test_weights_go_with_the_last_engine(tiny_model: Model) -> None:
    engine = NativeEngine(tiny_model)
    slot = engine.open_decoder()
    network = engine.network
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None
    assert slot == 1
    assert network.kernels == KERNELS[0]
    assert (network.encoder_bytes, network.decoder_bytes) < (10_000, 10_000)


def test_kernels_are_named_and_forced(tiny_model: Model) -> None:
    assert kernel_names()[-1] == "portable"
    for kernels in KERNELS:
        assert pack(tiny_model, kernels).kernels == kernels
    assert pack(tiny_model).kernels == KERNELS[0]
    with pytest.raises(UsageError, match="portable"):
        pack(tiny_model, "abacus")


def test_models_that_it_does_not_know_are_refused(tiny_model: Model) -> None:
    with pytest.raises(UsageError, match="no stream"):
        pack(Model(Encodec(ModelConfig(n_filters=2, n_codebooks=2, bandwidths=(1.5,), channels=2, causal=False))))
    with pytest.raises(UsageError, match="codebooks"):
        pack(
            Model(
                Encodec(ModelConfig(n_filters=2, dimension=1, codebook_size=1 << 16, n_codebooks=2, bandwidths=(3.0,)))
            )
        )


def test_the_binding_itself_refuses_what_does_not_fit(tiny_model: Model) -> None:
    """Python checks arguments first; the binding checks again, so that the memory of the process is
    safe in any case."""
    network, other = pack(tiny_model), pack(tiny_model, "portable")
    work, encoder, decoder = _native.Workspace(), network.encoder(), network.decoder()
    pcm, codes = np.zeros((1, HOP), np.float32), np.zeros((1, 4), np.int16)
    for wrong in (
        lambda: network.encode(work, [decoder], pcm, [1]),
        lambda: network.encode(work, [other.encoder()], pcm, [1]),
        lambda: network.encode(work, [None], pcm, [1]),  # type: ignore[list-item]
        lambda: network.encode(work, [encoder, encoder], np.zeros((2, HOP), np.float32), [1, 1]),
        lambda: network.encode(work, [encoder], pcm[:, :5], [1]),
        lambda: network.encode(work, [encoder], pcm[0], [1]),
        lambda: network.encode(work, [encoder], pcm, [0]),
        lambda: network.encode(work, [encoder], pcm, [17]),
        lambda: network.encode(work, [encoder], pcm, []),
        lambda: network.encode(work, [encoder], pcm + np.float32(np.nan), [1]),
        lambda: network.decode(work, [decoder], codes, [5]),
        lambda: network.decode(work, [decoder], codes[0], [4]),
        lambda: network.decode(work, [decoder], codes - 1, [4]),
        lambda: network.decode(work, [decoder], codes + 1024, [4]),
        lambda: network.decode(work, [encoder], codes, [4]),
        lambda: decoder.restore(b"short"),
        lambda: _native.Network({**LITE_24KHZ.to_dict(), "n_filters": 1 << 40}, {}, "auto", "fp32"),
        lambda: _native.Network(LITE_24KHZ.to_dict(), {}, "auto", "fp32"),
        lambda: _native.Network(LITE_24KHZ.to_dict(), {}, "auto", "fp8"),
        lambda: _native.Network({**LITE_24KHZ.to_dict(), "ratios": ()}, {}, "auto", "fp32"),
    ):
        with pytest.raises((ValueError, TypeError)):
            wrong()
    assert network.encode(work, [], np.zeros((0, HOP), np.float32), []).shape == (0, 0)


def test_steps_of_several_engines_run_at_once(tiny_model: Model, speech: Pcm) -> None:
    """Engines share weights and nothing else: four threads give the same results as one."""
    network = pack(tiny_model)
    frames = frames_of(speech, 4)[:200]
    expected, _ = run(NativeEngine(tiny_model, network=network), frames, 16)
    found: dict[int, np.ndarray] = {}

    def work(index: int) -> None:
        found[index], _ = run(NativeEngine(tiny_model, network=network), frames, 16)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(4):
        np.testing.assert_array_equal(found[index], expected)
