"""The engine for CUDA: its masks, rows and step sizes. Without a GPU the steps run on the CPU and
no graph is recorded. test_engines.py has what every engine promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from earshot import codec
from earshot.codec.engine import choice
from earshot.codec.engine.cuda.engine import CudaEngine, gpu
from earshot.codec.engine.torch.engine import TorchEngine
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm

HOP = 320
WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
WITH_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")


def sizes_of(engine: CudaEngine, kind: str) -> list[tuple[int, int]]:
    """Collects (rows, codebooks) of every later step."""
    direction, seen = engine._steps[kind], []
    run = direction._run

    def noted(size: int, width: int) -> None:
        seen.append((size, width))
        run(size, width)

    direction._run = noted  # type: ignore[method-assign]
    return seen


def test_a_step_covers_no_more_rows_and_codebooks_than_it_must(tiny_model: Model) -> None:
    engine = CudaEngine(tiny_model, 11, 11, device="cpu")
    slots = [engine.open_encoder() for _ in range(11)]
    seen = sizes_of(engine, "encoder")
    silence = np.zeros((1, HOP), np.float32)
    for last, n_q in ((0, 1), (1, 2), (2, 3), (3, 4), (7, 8), (8, 9), (10, 16)):
        engine.encode([slots[last]], silence, [n_q])
    assert seen == [(1, 1), (2, 2), (4, 4), (4, 4), (8, 8), (11, 16), (11, 16)]
    for slot in slots[:5]:
        engine.close(slot)
    engine.encode([engine.open_encoder()], silence, [1])
    assert seen[-1] == (1, 1), "the lowest free row is taken"


def test_rows_that_do_not_move_keep_every_bit(tiny_model: Model, speech: Pcm) -> None:
    engine = CudaEngine(tiny_model, 6, 6, device="cpu")
    encoders, decoders = [engine.open_encoder() for _ in range(6)], [engine.open_decoder() for _ in range(6)]
    frames = speech[: 12 * HOP].reshape(2, 6, HOP)
    for frame in frames:
        engine.decode(decoders, engine.encode(encoders, frame, [16] * 6))
    before = {slot: engine.save(slot) for slot in encoders + decoders}
    moving = [encoders[5], encoders[2]]
    codes = engine.encode(moving, frames[0, :2], [3, 7])
    engine.decode([decoders[4]], codes[:1])
    engine.reset(encoders[1])
    engine.decode([decoders[0]], codes[1:])
    for slot in set(before) - {*moving, decoders[4], decoders[0], encoders[1]}:
        assert engine.save(slot) == before[slot]
    for slot in (*moving, decoders[4], decoders[0], encoders[1]):
        assert engine.save(slot) != before[slot]


def test_a_reset_holds_until_a_step_comes_by(tiny_model: Model, speech: Pcm) -> None:
    """The mask of rows that start anew outlives copies, saved states, and steps that do not reach
    the row."""
    engine = CudaEngine(tiny_model, 8, 1, device="cpu")
    slots = [engine.open_encoder() for _ in range(6)]
    frames = speech[24_000 : 24_000 + 6 * HOP].reshape(6, HOP)
    fresh = engine.encode(slots, frames, [16] * 6)
    start = engine.save(engine.open_encoder())
    engine.encode(slots, frames, [16] * 6)
    for slot in slots[2:]:
        engine.reset(slot)
    assert engine.save(slots[5]) == start
    twin = engine.copy(slots[4])
    engine.encode(slots[:1], frames[:1], [1])
    engine.encode([slots[3]], frames[3:4], [1])
    moved = engine.save(slots[0])
    engine.restore(slots[2], moved)
    assert engine.save(slots[2]) == moved, "what is restored does not begin anew"
    engine.restore(slots[2], start)
    codes = engine.encode([slots[2], slots[4], slots[5]], frames[[2, 4, 5]], [16] * 3)
    for own, index in zip(codes, (2, 4, 5), strict=True):
        np.testing.assert_array_equal(own, fresh[index])
    np.testing.assert_array_equal(engine.encode([twin], frames[4:5], [16])[0], fresh[4])


def test_what_a_step_returns_outlives_the_next(tiny_model: Model, speech: Pcm) -> None:
    engine = CudaEngine(tiny_model, 1, 1, device="cpu")
    encoder, decoder = engine.open_encoder(), engine.open_decoder()
    (first,) = engine.encode([encoder], speech[None, :HOP], [16])
    heard = engine.decode([decoder], [first])
    kept, sounded = first.copy(), heard.copy()
    (second,) = engine.encode([encoder], speech[None, 24_000 : 24_000 + HOP], [16])
    engine.decode([decoder], [second])
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(heard, sounded)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near(precision: str, speech: Pcm) -> None:
    model = codec.load("default", engine="torch")
    exact, near = TorchEngine(model, 1, 1), CudaEngine(model, 1, 1, precision, device="cpu")
    slots = [engine.open_decoder() for engine in (exact, near)]
    encoders = [engine.open_encoder() for engine in (exact, near)]
    equal, heard = [], []
    for frame in speech[24_000 : 24_000 + 60 * HOP].reshape(60, 1, HOP):
        codes, others = (
            engine.encode([slot], frame, [8]) for engine, slot in zip((exact, near), encoders, strict=True)
        )
        equal.append(np.mean(codes[0][0] == others[0][0]))
        heard.append([engine.decode([slot], codes)[0] for engine, slot in zip((exact, near), slots, strict=True)])
    assert np.mean(equal) > 0.8, "the first codebook"
    right, wrong = np.square([pair[0] for pair in heard]).sum(), np.square([a - b for a, b in heard]).sum()
    assert 10 * np.log10(right / wrong) > 25, "dB"


def test_states_of_another_precision_are_refused(tiny_model: Model) -> None:
    one, other = CudaEngine(tiny_model, 1, 1, "bf16", "cpu"), CudaEngine(tiny_model, 1, 1, device="cpu")
    with pytest.raises(UsageError, match="no saved state"):
        other.restore(other.open_encoder(), one.save(one.open_encoder()))


def test_precisions_that_it_does_not_have_are_refused(tiny_model: Model) -> None:
    with pytest.raises(UsageError, match="fp32, bf16, fp16"):
        CudaEngine(tiny_model, 1, 1, "int8", "cpu")
    for name in ("torch", "native", "auto"):
        with pytest.raises(UsageError, match="precision"):
            choice.engine_factory(tiny_model, name, "fp16")  # type: ignore[arg-type]


@WITHOUT_GPU
def test_without_a_gpu_it_says_what_to_do(tiny_model: Model) -> None:
    with pytest.raises(UsageError, match=r"NVIDIA GPU.*or choose the engine auto"):
        choice.engine_factory(tiny_model, "cuda")
    with pytest.raises(UsageError, match="NVIDIA GPU"):
        codec.load(engine="cuda")
    with pytest.raises(UsageError, match="NVIDIA GPU"):
        CudaEngine(tiny_model, 1, 1)


@WITH_GPU
def test_recorded_steps_give_the_codes_of_torch(speech: Pcm) -> None:
    model = codec.load("default", engine="torch")
    frames = speech[: 48_000 // 16 * HOP // 30 // HOP * 30 * HOP].reshape(30, -1, HOP).swapaxes(0, 1)
    engines = TorchEngine(model), CudaEngine(model)
    slots = [[engine.open_encoder() for _ in range(30)] for engine in engines]
    decoders = [[engine.open_decoder() for _ in range(30)] for engine in engines]
    for frame in frames:
        codes, recorded = (engine.encode(own, frame, [16] * 30) for engine, own in zip(engines, slots, strict=True))
        np.testing.assert_array_equal(recorded, codes)
        heard, sounded = (engine.decode(own, codes) for engine, own in zip(engines, decoders, strict=True))
        np.testing.assert_allclose(sounded, heard, atol=1e-5)
    session = codec.load("default", engine="cuda").encoder(12.0)
    np.testing.assert_array_equal(session.push(speech[:HOP])[:, 0], model.encoder(12.0).push(speech[:HOP])[:, 0])
    assert gpu().dtype == torch.float32
