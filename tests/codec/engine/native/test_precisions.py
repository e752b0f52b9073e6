"""The native engine in bf16 and int8: close to fp32 of the same kernels, and close to each other
with any kernels."""

from __future__ import annotations

import numpy as np
import pytest

from earshot import codec
from earshot.codec.engine import choice
from earshot.codec.engine.native.engine import NativeEngine, NativePrecision, pack
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from tests.codec.engine.conftest import KERNELS, ODD

LOWER: tuple[NativePrecision, ...] = ("bf16", "int8")
LEAST_DB = {"bf16": 45.0, "int8": 35.0}
"""Lowest allowed signal-to-noise ratios in dB; 53 and 42 were measured on speech
(docs/engine.md)."""


def encoded(engine: NativeEngine, frames: np.ndarray, n_q: int) -> np.ndarray:
    """Encodes frames [time, streams, hop] to codes [time, streams, n_q]."""
    slots = [engine.open_encoder() for _ in range(frames.shape[1])]
    return np.stack([np.stack(engine.encode(slots, frame, [n_q] * len(slots))) for frame in frames])


def decoded(engine: NativeEngine, codes: np.ndarray) -> np.ndarray:
    slots = [engine.open_decoder() for _ in range(codes.shape[1])]
    return np.stack([engine.decode(slots, list(frame)) for frame in codes])


def snr_db(expected: np.ndarray, heard: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / max(np.square(expected - heard).sum(), 1e-20)))


@pytest.fixture(scope="module")
def frames(speech: Pcm) -> np.ndarray:
    return speech[: 200 * 4 * 320].reshape(4, 200, 320).swapaxes(0, 1)


@pytest.fixture(scope="module")
def default() -> Model:
    return codec.load("default")


@pytest.mark.parametrize("precision", LOWER)
def test_the_default_model_loses_little_with_every_set_of_kernels(
    precision: NativePrecision, default: Model, frames: np.ndarray
) -> None:
    exact = NativeEngine(default)
    codes = encoded(exact, frames, 8)
    heard = decoded(exact, codes)
    first: tuple[np.ndarray, np.ndarray] | None = None
    for kernels in KERNELS:
        engine = NativeEngine(default, network=pack(default, kernels, precision))
        own = encoded(engine, frames, 8), decoded(engine, codes)
        assert np.mean(own[0] == codes) > {"bf16": 0.92, "int8": 0.75}[precision], kernels
        assert np.mean(own[0][..., 0] == codes[..., 0]) > 0.96, kernels
        assert LEAST_DB[precision] < snr_db(heard, own[1]) < 80, "it is lower, but not by much"
        first = first or own
        assert np.mean(own[0] == first[0]) > np.mean(own[0] == codes) - 0.02, "kernels agree"
        assert snr_db(first[1], own[1]) > snr_db(heard, own[1]), "kernels agree better than precisions"


@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.parametrize("name", ODD)
def test_shapes_that_fill_no_vector(name: str, precision: NativePrecision, odd_models: dict[str, Model]) -> None:
    model = odd_models[name]
    noise = np.random.default_rng(0).standard_normal((40, 3, model.hop_length)).astype(np.float32) * 0.3
    exact = NativeEngine(model)
    codes = encoded(exact, noise, model.config.n_codebooks)
    heard = decoded(exact, codes)
    for kernels in KERNELS:
        engine = NativeEngine(model, network=pack(model, kernels, precision))
        assert snr_db(heard, decoded(engine, codes)) > {"bf16": 35, "int8": 25}[precision], kernels
        assert np.mean(encoded(engine, noise, 1) == codes[..., :1]) > {"bf16": 0.9, "int8": 0.8}[precision], kernels


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("precision", LOWER)
def test_every_batch_gives_the_bits_of_lone_streams(
    precision: NativePrecision, kernels: str, tiny_model: Model, frames: np.ndarray
) -> None:
    network = pack(tiny_model, kernels, precision)
    many = np.concatenate([frames[:20] * level for level in (1.0, 0.3, 1e-3, 0.0)], axis=1)
    together = encoded(NativeEngine(tiny_model, network=network), many, 16)
    sound = decoded(NativeEngine(tiny_model, network=network), together)
    for stream in range(many.shape[1]):
        own = slice(stream, stream + 1)
        alone = NativeEngine(tiny_model, network=network)
        np.testing.assert_array_equal(encoded(alone, many[:, own], 16), together[:, own])
        np.testing.assert_array_equal(decoded(alone, together[:, own]), sound[:, own])


def test_a_stream_goes_on_in_another_precision(tiny_model: Model, frames: np.ndarray) -> None:
    exact = NativeEngine(tiny_model)
    codes = encoded(exact, frames[:40, :1], 8)
    heard = decoded(exact, codes)
    slot = exact.open_decoder()
    for frame in codes[:20]:
        exact.decode([slot], list(frame))
    lower = NativeEngine(tiny_model, network=pack(tiny_model, precision="bf16"))
    other = lower.open_decoder()
    lower.restore(other, exact.save(slot))
    assert snr_db(heard[20:], np.stack([lower.decode([other], list(frame)) for frame in codes[20:]])) > 30


def test_weights_take_less_memory(default: Model) -> None:
    fp32, bf16, int8 = (pack(default, precision=precision).bytes for precision in ("fp32", "bf16", "int8"))  # type: ignore[arg-type]
    assert int8 < bf16 < fp32


def test_precisions_are_chosen_by_name_for_both_directions_or_for_decoders_alone(frames: np.ndarray) -> None:
    exact, lower = codec.load("default"), codec.load("default", "native", "fp32", "int8")
    pcm = frames[:, 0].ravel()
    codes = exact.frame_encoder(6.0).push(pcm)
    np.testing.assert_array_equal(lower.frame_encoder(6.0).push(pcm), codes)
    snr = snr_db(exact.frame_decoder().push(codes), lower.frame_decoder().push(codes))
    assert LEAST_DB["int8"] < snr < 80
    both = codec.load("default", precision="bf16")
    assert 0.9 < np.mean(both.frame_encoder(6.0).push(pcm) == codes) < 1
    engine = choice.engine_factory(exact, "auto", "bf16")(1, 1)
    assert isinstance(engine, NativeEngine)
    assert engine.network.bytes < pack(exact).bytes


@pytest.mark.parametrize(
    ("engine", "precision", "decoding", "said"),
    [
        ("torch", "bf16", None, "has the precision fp32"),
        ("native", "fp16", None, "fp32 or bf16 or int8"),
        ("native", "fp32", "fp16", "not fp16"),
        ("torch", "fp32", "int8", "not int8"),
        ("auto", "fp8", None, "choose one of"),
    ],
)
def test_precisions_that_an_engine_does_not_have_are_refused(
    engine: str, precision: str, decoding: str | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        codec.load("default", engine, precision, decoding)  # type: ignore[arg-type]
