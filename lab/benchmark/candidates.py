"""What is compared: torch layer by layer, and Earshot's engines in every precision that they
take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from earshot.codec.engine.base import Engine
from earshot.codec.engine.choice import PRECISIONS, EngineName, engine_factory, native_is_built
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from earshot.lab.benchmark.floor import Direction
from earshot.lab.benchmark.inputs import Inputs, cycled
from earshot.lab.benchmark.results import Key

NAIVE = "torch, naive"


@dataclass(frozen=True)
class Candidate:
    """Something that encodes or decodes, ready to be stepped."""

    key: Key
    step: Callable[[], object]
    """Codes a frame of each of the streams, or a whole signal."""
    seconds: float
    """Seconds of sound in a step, of all streams together."""
    encode: Callable[[Pcm], NDArray[np.int16]] | None = None
    """The codes [F, B, n_q] of frames [F, B, hop], for encoders whose codes are compared."""
    cpu: bool = True
    """Whether the processor's time is measured; otherwise the clock's is."""


@dataclass(frozen=True)
class Task:
    """What every candidate is asked for."""

    model: Model
    direction: Direction
    inputs: Inputs
    signal: Inputs
    """One stream, for candidates that take a whole signal."""
    precisions: Sequence[str]
    threads: int

    @property
    def batch(self) -> int:
        return int(self.inputs.codes.shape[1])

    @property
    def n_q(self) -> int:
        return int(self.inputs.codes.shape[2])

    def key(self, engine: str, precision: str = "fp32", way: str | None = None, whole: bool = False) -> Key:
        return Key(engine, precision, way, self.direction, None if whole else self.batch, paced=False)

    @property
    def pcm(self) -> NDArray[np.float32]:
        """Returns the signal, [n]."""
        return self.signal.pcm.reshape(-1)

    @property
    def seconds(self) -> float:
        """Returns how long the signal is."""
        return len(self.signal.pcm) / self.model.frame_rate


def naive_torch(task: Task) -> Candidate:
    """Returns the network's own layers, stepped in the simplest way."""
    model, batch, n_q = task.model, task.batch, task.n_q
    quantizer = model.network.quantizer
    net = model.network.encoder if task.direction == "encode" else model.network.decoder
    caches = net.init_caches(batch)
    pcm, codes = cycled(task.inputs.pcm), cycled(task.inputs.codes.astype(np.int64))

    @torch.inference_mode()
    def encode() -> None:
        nonlocal caches
        latents, caches = net.step(torch.from_numpy(next(pcm))[:, None], caches, "zeros", last=False)
        quantizer.encode(latents, n_q)

    @torch.inference_mode()
    def decode() -> None:
        nonlocal caches
        latents = quantizer.decode(torch.from_numpy(next(codes))[..., None])
        _, caches = net.step(latents, caches, "zeros", last=False)

    return Candidate(task.key(NAIVE), encode if task.direction == "encode" else decode, batch / model.frame_rate)


def engine_candidate(task: Task, engine: Engine, key: Key) -> Candidate:
    """Returns an engine with a slot for each stream."""
    inputs, batch, n_q = task.inputs, task.batch, task.n_q
    seconds, cpu = batch / task.model.frame_rate, key.engine != "cuda"
    if key.direction == "decode":
        decoders = [engine.open_decoder() for _ in range(batch)]
        rows = cycled(inputs.codes)
        return Candidate(key, lambda: engine.decode(decoders, list(next(rows))), seconds, cpu=cpu)
    encoders, counts = [engine.open_encoder() for _ in range(batch)], [n_q] * batch
    frames = cycled(inputs.pcm)

    def codes(pcm: Pcm) -> NDArray[np.int16]:
        for slot in encoders:
            engine.reset(slot)
        return np.stack([np.stack(engine.encode(encoders, frame, counts)) for frame in pcm])

    return Candidate(key, lambda: engine.encode(encoders, next(frames), counts), seconds, codes, cpu)


def kernel_sets(requested: Sequence[str]) -> list[str]:
    """Returns the names of sets of kernels: "auto" is the fastest, "all" is every one that this
    processor runs.

    Raises UsageError for others. Without the native engine there are none."""
    if not native_is_built():
        return []
    from earshot.codec.engine.native.engine import kernel_names

    known, found = kernel_names(), []
    for name in requested:
        if name not in ("auto", "all", *known):
            raise UsageError(f"there are no kernels {name!r} for this processor; it has auto, all, {', '.join(known)}")
        found += known if name == "all" else known[:1] if name == "auto" else [name]
    return list(dict.fromkeys(found))


def own_candidates(task: Task, kernels: Sequence[str]) -> Iterator[Candidate]:
    """Yields Earshot's engines, without the precisions that an engine refuses. `kernels` are those
    of the native engine."""
    if "fp32" in task.precisions:
        yield naive_torch(task)
    for name in get_args(EngineName):
        for precision in task.precisions if name != "auto" else ():
            for own in kernels if name == "native" else (None,):
                made = _make(task.model, name, precision, own)
                if made is not None:
                    yield engine_candidate(task, made(task.batch, task.batch), task.key(name, precision, own))


def _make(model: Model, name: EngineName, precision: str, kernels: str | None) -> Callable[[int, int], Engine] | None:
    """Returns what makes an engine; None if this machine or this engine cannot have it."""
    if precision not in PRECISIONS.get(name, ()):
        return None
    if kernels is not None:
        from earshot.codec.engine.native.engine import NativeEngine, NativePrecision, pack

        network = pack(model, kernels, cast(NativePrecision, precision))
        return lambda encoders, decoders: NativeEngine(model, encoders, decoders, network)
    try:
        return engine_factory(model, name, precision)
    except UsageError:
        return None
