"""Random arguments for the native module, its engine and its sessions.

They may raise only documented errors, and other streams go on as if nothing had been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from earshot.codec.config import ModelConfig
from earshot.codec.engine.native import _native
from earshot.codec.engine.native.engine import NativeEngine, NativePrecision, kernel_names, pack
from earshot.codec.engine.native.sessions import NativeDecoderSession, NativeEncoderSession
from earshot.codec.errors import EarshotError
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec

CONFIG = ModelConfig(
    name="small", n_filters=2, dimension=8, ratios=(3, 2), n_codebooks=4, codebook_size=16, bandwidths=(64.0,)
)
HOP, BOOKS = CONFIG.hop_length, CONFIG.n_codebooks
DTYPES = ("f4", "f4", "f4", "f8", "i2", "i2", "i8", "?", "c8", "O", "U3", ">f4", "V4", "u2")
THINGS: tuple[Any, ...] = (None, 3, -1, 2**70, 0.5, "x", b"x", [], (), {}, [1], np.float32(1), np.zeros(()), object)

PRECISIONS: tuple[NativePrecision, ...] = ("fp32", "bf16", "int8")


class Arguments:
    """Arguments that a careless caller may pass, right and wrong."""

    def __init__(self, random: np.random.Generator, right: list[Any], wrong: list[Any]) -> None:
        self.random, self.right, self.wrong = random, right, [*wrong, None, 7]

    def pick(self, values: Any) -> Any:
        return values[int(self.random.integers(len(values)))]

    def sometimes(self, value: Any, chance: float = 0.08) -> Any:
        return self.pick(THINGS) if self.random.random() < chance else value

    def streams(self) -> list[Any]:
        count = int(self.random.integers(0, 5))
        chosen = [self.right[i] for i in self.random.permutation(len(self.right))[:count]]
        if chosen and self.random.random() < 0.15:
            chosen[int(self.random.integers(len(chosen)))] = self.pick([*self.wrong, *self.right])
        return chosen

    def array(self, rows: int, columns: int, dtype: str) -> Any:
        """Returns [rows, columns] most of the time, and otherwise something near it in shape, type
        and layout."""
        shape: tuple[int, ...] = (rows, columns)
        if self.random.random() < 0.2:
            shape = self.pick([(rows + 1, columns), (rows, columns + 1), (rows,), (columns,), (rows, columns, 1), (0,)])
        if self.random.random() < 0.2:
            dtype = self.pick(DTYPES)
        values = self.random.integers(-2, 20, shape) if self.random.random() < 0.3 else np.zeros(shape)
        with np.errstate(all="ignore"):
            array = values.astype(dtype) if dtype != "V4" else np.zeros(shape, dtype)
        if array.dtype.kind == "f" and array.size and self.random.random() < 0.2:
            array.flat[int(self.random.integers(array.size))] = self.pick([np.nan, np.inf, 1e30, -1e-44])
        if self.random.random() < 0.2:
            array = np.asfortranarray(array)
        if array.ndim == 2 and self.random.random() < 0.2:
            array = np.repeat(np.repeat(array, 2, 0), 2, 1)[::2, ::2]
        return self.sometimes(array.tolist() if self.random.random() < 0.05 else array)

    def n_q(self, rows: int) -> Any:
        counts: list[Any] = self.random.integers(1, BOOKS + 1, rows).tolist()
        if counts and self.random.random() < 0.2:
            counts[0] = self.pick([0, -1, BOOKS + 1, 2**40, 2**70, None, 1.5, "1", True, np.int8(1)])
        if self.random.random() < 0.1:
            counts = counts[:-1] if self.random.random() < 0.5 else [*counts, 1]
        return self.sometimes(counts)

    def damaged(self, data: bytes) -> Any:
        """Returns saved bytes with some changed, cut off or added."""
        bytes_ = bytearray(data)
        for _ in range(int(self.random.integers(0, 4))):
            if bytes_:
                bytes_[int(self.random.integers(len(bytes_)))] = int(self.random.integers(256))
        kind = self.random.random()
        if kind < 0.1:
            del bytes_[int(self.random.integers(len(bytes_) + 1)) :]
        elif kind < 0.2:
            bytes_ += self.random.bytes(int(self.random.integers(1, 9)))
        return self.sometimes(bytes(bytes_))


def bad_arguments(number: int, calls: int) -> Counter[str]:
    """Calls with the random arguments of this number. Raises AssertionError for errors that are not
    documented."""
    torch.manual_seed(0)
    random = np.random.default_rng(number)
    model, other = Model(Encodec(CONFIG)), Model(Encodec(CONFIG))
    counts: Counter[str] = Counter()
    for kernels in kernel_names():
        precision = PRECISIONS[int(random.integers(len(PRECISIONS)))]
        network, stranger = pack(model, kernels, precision), pack(other, kernels, precision)
        kinds = (
            _raw(model, network, stranger, kernels, random),
            _engine(model, network, random),
            _sessions(model, network, random),
        )
        canary, first = NativeEngine(model, 1, 1, network), None
        streams = canary.open_encoder(), canary.open_decoder()
        for call in range(calls // len(kernel_names())):
            make, allowed = kinds[int(random.integers(len(kinds)))]
            counts["calls"] += 1
            try:
                make()
            except allowed:
                counts["refused"] += 1
            except Exception as error:
                raise AssertionError(f"arguments {number}, {kernels}, {precision}, call {call}: {error!r}") from error
        for slot in streams:
            canary.reset(slot)
        codes = canary.encode([streams[0]], np.full((1, HOP), 0.3, np.float32), [BOOKS])
        heard = canary.decode([streams[1]], codes)
        first = first or NativeEngine(model, 1, 1, network)
        again = first.encode([first.open_encoder()], np.full((1, HOP), 0.3, np.float32), [BOOKS])
        assert np.array_equal(codes, again)
        assert np.array_equal(heard, first.decode([first.open_decoder()], again))
    return counts


Calls = tuple[Callable[[], object], tuple[type[BaseException], ...]]


def _raw(
    model: Model, network: _native.Network, stranger: _native.Network, kernels: str, random: np.random.Generator
) -> Calls:
    work = _native.Workspace()
    encoders, decoders = [network.encoder() for _ in range(5)], [network.decoder() for _ in range(5)]
    tensors = {name: tensor.numpy() for name, tensor in model.network.state_dict().items()}
    tensors["quantizer.norms"] = np.zeros((BOOKS, CONFIG.codebook_size), np.float32)

    def call() -> object:
        kind = int(random.integers(5))
        if kind == 0:
            own = Arguments(random, encoders, [*decoders, stranger.encoder()])
            states = own.streams()
            pcm, n_q = own.array(len(states), HOP, "f4"), own.n_q(len(states))
            return network.encode(own.sometimes(work, 0.03), own.sometimes(states, 0.03), pcm, n_q)
        if kind == 1:
            own = Arguments(random, decoders, [*encoders, stranger.decoder()])
            states = own.streams()
            codes, n_q = own.array(len(states), BOOKS, "i2"), own.n_q(len(states))
            return network.decode(own.sometimes(work, 0.03), own.sometimes(states, 0.03), codes, n_q)
        if kind == 2:
            state = (encoders + decoders)[int(random.integers(10))]
            return state.restore(Arguments(random, [], []).damaged(state.save()))
        if kind == 3:
            state = (encoders + decoders)[int(random.integers(10))]
            return state.copy() if random.random() < 0.5 else state.reset()
        return _build(Arguments(random, [], []), tensors, kernels)

    # What pybind11 cannot convert at all is a RuntimeError ("cast"), a setting that is missing a
    # KeyError.
    return call, (ValueError, TypeError, KeyError, RuntimeError)


def _build(own: Arguments, tensors: dict[str, np.ndarray], kernels: str) -> object:
    shape: dict[str, Any] = CONFIG.to_dict()
    changed = dict(tensors)
    key = own.pick([key for key, value in shape.items() if isinstance(value, int)])
    if own.random.random() < 0.5:
        shape[key] = own.pick([0, -1, 1, 3, 17, 1 << 16, (1 << 16) + 1, 1 << 40, 1 << 62, None, "x"])
    else:
        shape["ratios"] = own.pick([(), (0,), (-1, 2), (3, 2, 2), (1 << 40,), (1 << 62, 4), (2,) * 70, "x", None])
    if own.random.random() < 0.3:
        name = own.pick(list(changed))
        changed[name] = own.array(3, 2, "f4")
    if own.random.random() < 0.1:
        del shape[own.pick(list(shape))]
    return _native.Network(shape, changed, own.sometimes(kernels), own.sometimes(own.pick(PRECISIONS)))


def _engine(model: Model, network: _native.Network, random: np.random.Generator) -> Calls:
    engine = NativeEngine(model, 4, 4, network)
    encoders, decoders = [engine.open_encoder() for _ in range(3)], [engine.open_decoder() for _ in range(3)]

    def call() -> object:
        kind = int(random.integers(5))
        if kind == 0:
            own = Arguments(random, encoders, [*decoders, 99, -1])
            slots = own.streams()
            return engine.encode(slots, own.array(len(slots), HOP, "f4"), own.n_q(len(slots)))
        if kind == 1:
            own = Arguments(random, decoders, [*encoders, 99, -1])
            slots = own.streams()
            return engine.decode(slots, [own.sometimes(own.array(1, 3, "i2")) for _ in slots])
        if kind == 2:
            own, slot = Arguments(random, [], []), (encoders + decoders)[int(random.integers(6))]
            return engine.restore(slot, own.damaged(engine.save(slot)))
        if kind == 3:
            with suppress(EarshotError):
                engine.close(engine.copy((encoders + decoders)[int(random.integers(6))]))
        own = Arguments(random, [], [])
        return own.pick([engine.close, engine.reset, engine.copy, engine.save])(own.pick([99, -1, None, "x", 0.5]))

    return call, (EarshotError, TypeError, ValueError)


def _sessions(model: Model, network: _native.Network, random: np.random.Generator) -> Calls:
    encoder = NativeEncoderSession(model.network, network, CONFIG.bandwidths[0])
    decoder = NativeDecoderSession(model.network, network)

    def call() -> object:
        own = Arguments(random, [], [])
        session = (encoder, decoder)[int(random.integers(2))]
        with suppress(EarshotError, TypeError):
            session.restore(own.damaged(session.save()))
        # Whatever was restored, the session steps on.
        encoder.push(np.zeros(HOP, np.float32))
        decoder.push(np.zeros((BOOKS, 1), np.int16))
        if random.random() < 0.2:
            session.reset()
        return None

    return call, (EarshotError,)
