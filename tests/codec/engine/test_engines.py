"""What every engine promises, against single sessions in torch."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from earshot.codec.engine.base import Engine
from earshot.codec.engine.torch.engine import TorchEngine
from earshot.codec.errors import EngineFull, UsageError
from earshot.codec.model.model import Model
from earshot.codec.model.streaming import DecoderSession, EncoderSession
from earshot.codec.pcm import Pcm

HOP = 320
MakeEngine = Callable[..., Engine]


def test_any_subset_in_any_order_equals_sessions_of_their_own(tiny_model: Model, make_engine: MakeEngine) -> None:
    random = np.random.default_rng(0)
    engine = make_engine(tiny_model, encoders=5, decoders=5)
    rates = [1.5, 3.0, 6.0, 12.0]
    encoders, decoders = [engine.open_encoder() for _ in rates], [engine.open_decoder() for _ in rates]
    lone_encoders = [EncoderSession(tiny_model.network, kbps) for kbps in rates]
    lone_decoders = [DecoderSession(tiny_model.network) for _ in rates]
    for _ in range(30):
        who = random.permutation(4)[: random.integers(1, 5)]
        pcm = random.standard_normal((len(who), HOP)).astype(np.float32) * 0.1
        codes = engine.encode([encoders[i] for i in who], pcm, [tiny_model.config.n_q(rates[i]) for i in who])
        heard = engine.decode([decoders[i] for i in who], codes)
        for row, i in enumerate(who):
            np.testing.assert_array_equal(codes[row], lone_encoders[i].push(pcm[row])[:, 0])
            np.testing.assert_allclose(heard[row], lone_decoders[i].push(codes[row][:, None]), atol=1e-5)


def test_threads_step_other_slots_of_one_engine_at_once(tiny_model: Model, make_engine: MakeEngine) -> None:
    frames = np.random.default_rng(4).standard_normal((60, 4, HOP)).astype(np.float32) * 0.1
    engine = make_engine(tiny_model, encoders=4, decoders=4)
    if engine.__class__.__name__ == "CudaEngine":
        pytest.skip("belongs to one thread")
    slots = [(engine.open_encoder(), engine.open_decoder()) for _ in range(4)]
    said: list[list[np.ndarray]] = [[], [], [], []]
    heard: list[list[np.ndarray]] = [[], [], [], []]

    def step(index: int) -> None:
        for frame in frames:
            codes = engine.encode([slots[index][0]], frame[index : index + 1], [8])
            said[index].append(codes[0])
            heard[index].append(engine.decode([slots[index][1]], codes)[0])

    threads = [threading.Thread(target=step, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(4):
        expected = EncoderSession(tiny_model.network, 6.0).push(frames[:, index].reshape(-1))
        np.testing.assert_array_equal(np.stack(said[index], axis=1), expected)
        sound = DecoderSession(tiny_model.network).push(expected)
        np.testing.assert_allclose(np.concatenate(heard[index]), sound, atol=1e-5)


def test_reset_copy_and_reuse_of_slots(tiny_model: Model, make_engine: MakeEngine) -> None:
    engine = make_engine(tiny_model, encoders=2, decoders=1)
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
    with pytest.raises(EngineFull):
        engine.copy(slot)
    engine.close(slot)
    fresh = engine.open_encoder()
    np.testing.assert_array_equal(engine.encode([fresh], frames[0], [8])[0], first[0])


def test_a_copied_decoder_goes_its_own_way(tiny_model: Model, make_engine: MakeEngine) -> None:
    engine = make_engine(tiny_model)
    random = np.random.default_rng(2)
    slot = engine.open_decoder()
    for _ in range(3):
        engine.decode([slot], [random.integers(0, 1024, 8).astype(np.int16)])
    twin, codes = engine.copy(slot), random.integers(0, 1024, (2, 8)).astype(np.int16)
    heard = engine.decode([twin], [codes[1]])
    expected = engine.decode([slot], [codes[0]])
    engine.decode([twin], [codes[0]])
    assert np.abs(heard - expected).max() > 1e-4
    engine.close(twin)
    assert np.abs(engine.decode([slot], [codes[1]]) - heard).max() > 1e-4


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_saved_state_goes_on_in_another_slot_of_another_engine(
    tiny_model: Model, make_engine: MakeEngine, kind: str
) -> None:
    engine, other = make_engine(tiny_model), make_engine(tiny_model)
    random = np.random.default_rng(3)
    inputs: list[np.ndarray] = [
        random.standard_normal((1, HOP)).astype(np.float32) if kind == "encoder" else random.integers(0, 1024, 8)
        for _ in range(8)
    ]

    def step(engine: Engine, slot: int, value: np.ndarray) -> np.ndarray:
        return engine.encode([slot], value, [16])[0] if kind == "encoder" else engine.decode([slot], [value])

    def opened(engine: Engine) -> int:
        return engine.open_encoder() if kind == "encoder" else engine.open_decoder()

    slot = opened(engine)
    for value in inputs[:4]:
        step(engine, slot, value)
    saved = engine.save(slot)
    expected = [step(engine, slot, value) for value in inputs[4:]]
    target = opened(other)
    step(other, target, inputs[0])
    other.restore(target, saved)
    np.testing.assert_array_equal([step(other, target, value) for value in inputs[4:]], expected)
    engine.restore(slot, saved)
    np.testing.assert_array_equal([step(engine, slot, value) for value in inputs[4:]], expected)


def test_states_that_do_not_fit_are_refused_and_change_nothing(
    tiny_model: Model, odd_models: dict[str, Model], make_engine: MakeEngine
) -> None:
    engine, strange = make_engine(tiny_model), make_engine(odd_models["wide"])
    encoder, decoder = engine.open_encoder(), engine.open_decoder()
    codes = [np.arange(8, dtype=np.int16)]
    good, before = engine.save(decoder), engine.decode([decoder], codes)
    engine.restore(decoder, good)
    nan = good[:-4] + np.float32(np.nan).tobytes()
    wrong = (engine.save(encoder), strange.save(strange.open_decoder()), good[:-4], good + b"1234", nan, b"", "x")
    for data in wrong:
        with pytest.raises(UsageError):
            engine.restore(decoder, data)  # type: ignore[arg-type]
    np.testing.assert_array_equal(engine.decode([decoder], codes), before)


def test_misuse_is_refused_and_changes_nothing(tiny_model: Model, make_engine: MakeEngine) -> None:
    engine = make_engine(tiny_model, encoders=2, decoders=2)
    encoder, decoder = engine.open_encoder(), engine.open_decoder()
    silence = np.zeros((1, HOP), np.float32)
    for wrong in (
        lambda: engine.encode([decoder], silence, [8]),
        lambda: engine.encode([encoder, encoder], np.zeros((2, HOP), np.float32), [8, 8]),
        lambda: engine.encode([encoder], silence[:, :100], [8]),
        lambda: engine.encode([encoder], silence[0], [8]),
        lambda: engine.encode([encoder], silence, [17]),
        lambda: engine.encode([encoder], silence, [0]),
        lambda: engine.encode([encoder], silence, [8, 8]),
        lambda: engine.encode([encoder], silence + np.float32(np.nan), [8]),
        lambda: engine.encode([encoder], silence + np.float32(np.inf), [8]),
        lambda: engine.decode([encoder], [np.zeros(8, np.int16)]),
        lambda: engine.decode([decoder, decoder], [np.zeros(8, np.int16)] * 2),
        lambda: engine.decode([decoder], [np.array([1024], np.int16)]),
        lambda: engine.decode([decoder], [np.array([-1], np.int16)]),
        lambda: engine.decode([decoder], [np.array([70_000], np.int64)]),
        lambda: engine.decode([decoder], [np.zeros(17, np.int16)]),
        lambda: engine.decode([decoder], [np.zeros(0, np.int16)]),
        lambda: engine.decode([decoder], [np.zeros(8, np.float32)]),
        lambda: engine.decode([decoder], [np.zeros((2, 2), np.int16)]),
        lambda: engine.decode([decoder], []),
        lambda: engine.close(99),
        lambda: engine.reset(99),
        lambda: engine.copy(99),
        lambda: engine.save(99),
        lambda: engine.restore(99, b""),
    ):
        with pytest.raises(UsageError):
            wrong()
    assert engine.encode([], np.zeros((0, HOP), np.float32), []) == []
    assert engine.decode([], []).shape == (0, HOP)
    expected = EncoderSession(tiny_model.network, 6.0).push(silence[0])[:, 0]
    np.testing.assert_array_equal(engine.encode([encoder], silence, [8])[0], expected)


def test_loud_and_fading_streams_stay_finite(tiny_model: Model, make_engine: MakeEngine) -> None:
    engine = make_engine(tiny_model)
    encoder, decoder = engine.open_encoder(), engine.open_decoder()
    for level in (16.0, 1.0, 1e-20, 1e-38, 1e-44, 0.0, 1e30, 0.0):
        codes = engine.encode([encoder], np.full((1, HOP), level, np.float32), [16])
        assert np.isfinite(engine.decode([decoder], codes)).all()


def test_random_lives_of_streams_are_those_of_torch(tiny_model: Model, speech: Pcm, make_engine: MakeEngine) -> None:
    """Opens, steps, copies, resets, saves, restores and closes streams at random, in the engine and
    in torch."""
    random = np.random.default_rng(11)
    engines = (TorchEngine(tiny_model, 6, 6), make_engine(tiny_model, 6, 6))
    frames = speech[: speech.size // HOP * HOP].reshape(-1, HOP)
    open_slots: dict[str, list[tuple[int, int]]] = {"encoder": [], "decoder": []}
    saved: dict[str, tuple[bytes, bytes]] = {}
    stepped = 0
    for _ in range(600):
        kind = ("encoder", "decoder")[random.integers(2)]
        mine = open_slots[kind]
        action = random.choice(["open", "copy", "close", "reset", "save", "restore", *["step"] * 6])
        pick = mine[random.integers(len(mine))] if mine else None
        if action == "open" and len(mine) < 6:
            mine.append(tuple(getattr(engine, f"open_{kind}")() for engine in engines))
        elif pick is None:
            continue
        elif action == "copy" and len(mine) < 6:
            mine.append(tuple(engine.copy(slot) for engine, slot in zip(engines, pick, strict=True)))
        elif action in ("close", "reset"):
            for engine, slot in zip(engines, pick, strict=True):
                getattr(engine, action)(slot)
            if action == "close":
                mine.remove(pick)
        elif action == "save":
            saved[kind] = tuple(engine.save(slot) for engine, slot in zip(engines, pick, strict=True))
        elif action == "restore" and kind in saved:
            for engine, slot, data in zip(engines, pick, saved[kind], strict=True):
                engine.restore(slot, data)
        elif action == "step":
            who = [mine[i] for i in random.permutation(len(mine))[: random.integers(1, len(mine) + 1)]]
            reference, others = ([pair[side] for pair in who] for side in (0, 1))
            n_q = random.integers(1, 17, len(who)).tolist()
            stepped += len(who)
            if kind == "encoder":
                pcm = frames[random.integers(len(frames), size=len(who))]
                expected = engines[0].encode(reference, pcm, n_q)
                for own, other in zip(engines[1].encode(others, pcm, n_q), expected, strict=True):
                    np.testing.assert_array_equal(own, other)
            else:
                codes = [random.integers(0, 1024, count).astype(np.int16) for count in n_q]
                expected = engines[0].decode(reference, codes)
                np.testing.assert_allclose(engines[1].decode(others, codes), expected, atol=1e-5)
    assert stepped > 500
