"""Random lives of streams in the native engine, with every set of kernels, compared with the torch
engine; and random arguments.

    python -m tests.bench.fuzz_engine --minutes 10
    python -m tests.bench.fuzz_engine --life 17      # repeats the life that a finding names

A life is a model, of a random shape of the 24 kHz family or (every tenth) the default one, and some
hundred operations: streams are opened, stepped in random groups, copied, reset, saved, restored and
closed. Codes must be those of torch, except between entries whose distances differ by no more than
rounding. Sound must be that of torch within 1e-5. `tests/codec/engine/test_fuzz.py` runs a few
lives, `tests.bench.fuzz_arguments` tries arguments that do not fit."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from earshot import codec
from earshot.codec.config import ModelConfig
from earshot.codec.engine.native.engine import NativeEngine, kernel_names, pack
from earshot.codec.engine.torch.engine import TorchEngine
from earshot.codec.errors import EngineFull, UsageError
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from tests.bench.fuzz_arguments import bad_arguments

ROOM = 6
"""Slots of each kind."""
LEVELS = (0.0, 1e-44, 1e-38, 1e-20, 1e-5, 1e-2, 0.1, 0.3, 1.0, 1.0, 32.0, 1e4, 1e9)
"""Of samples: silence, numbers too small for the processor's fast path, speech, and what no
microphone gives."""
OVERFLOW = 3e38
"""Samples whose sums are infinite. What such a stream gives means nothing, and must trouble no
other."""
ROUNDING = 1e-5
"""How far latents of two engines may be apart, as a part of the largest."""
OPERATIONS = ("open", "copy", "close", "reset", "save", "restore", *["step"] * 6)


class Finding(AssertionError):
    """The engines disagree."""


def random_config(random: np.random.Generator) -> ModelConfig:
    """Returns a random shape of the family, small enough for a life to take a second."""

    def whole(low: int, high: int) -> int:
        return int(random.integers(low, high + 1))

    ratios = [whole(1, 8) for _ in range(whole(1, 4))]
    while np.prod(ratios) > 400:
        ratios.pop()
    filters = whole(1, 20) if len(ratios) < 4 else whole(1, 9)
    return ModelConfig(
        name="random",
        n_filters=filters,
        dimension=whole(1, 40),
        ratios=tuple(ratios),
        kernel_size=whole(1, 9),
        last_kernel_size=whole(1, 9),
        residual_kernel_size=whole(1, 5),
        n_residual_layers=whole(1, 3),
        dilation_base=whole(1, 3),
        compress=whole(1, min(4, filters)),
        lstm_layers=whole(1, 3),
        n_codebooks=whole(1, 8),
        codebook_size=2 ** whole(1, 8),
        bandwidths=(6e4,),
        postfilter=(whole(0, 6) / 10, whole(0, 6) / 10) if whole(1, 3) == 1 else None,
    )


@torch.no_grad()
def random_model(config: ModelConfig, seed: int) -> Model:
    """Returns a model of random weights, with codebooks of the scale of what they code."""
    torch.manual_seed(seed)
    network = Encodec(config)
    for parameter in network.parameters():
        parameter.mul_(1.5)
    latents, _ = network.encoder.step(0.3 * torch.randn(1, 1, 50 * config.hop_length), None, "zeros", last=True)
    scale = latents.std() if latents.numel() > 1 and latents.std() > 0 else torch.tensor(1.0)
    for codebook in network.quantizer.codebooks:
        codebook.copy_(torch.randn_like(codebook) * scale)
        scale = scale * 0.7
    return Model(network)


@dataclass
class Stream:
    kind: str
    slots: list[int]  # in the torch engine, then in each of the others
    wild: bool = False  # has heard what overflows


class Watched:
    """Codebooks of the torch engine that remember what was coded last."""

    def __init__(self, codebooks: Any) -> None:
        self._codebooks = codebooks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codebooks, name)

    def encode(self, latents: torch.Tensor, n_q: int) -> torch.Tensor:
        self.latents = latents  # [B, dimension]
        return self._codebooks.encode(latents, n_q)


class Life:
    """The same streams in the torch engine and in native ones."""

    def __init__(self, model: Model, random: np.random.Generator, kernels: list[str] | None = None) -> None:
        self.model, self.random = model, random
        self.names = kernels or kernel_names()
        self.reference = TorchEngine(model, ROOM, ROOM)
        self.natives = [NativeEngine(model, ROOM, ROOM, pack(model, name)) for name in self.names]
        self.engines = [self.reference, *self.natives]
        self.streams: list[Stream] = []
        self.saved: list[tuple[str, list[bytes], bool]] = []
        self.counts: Counter[str] = Counter()
        self.books = model.network.quantizer.codebooks.double()
        self.watched = Watched(self.reference._codebooks)
        self.reference._codebooks = self.watched  # type: ignore[assignment]

    def run(self, operations: int) -> Counter[str]:
        for _ in range(operations):
            name = str(self.random.choice(OPERATIONS))
            if name == "open":
                self.open()
            elif self.streams:
                getattr(self, name)(self.streams[self.random.integers(len(self.streams))])
            self.counts[name] += 1
        return self.counts

    def open(self) -> None:
        kind = str(self.random.choice(["encoder", "decoder"]))
        if sum(stream.kind == kind for stream in self.streams) < ROOM:
            self.streams.append(Stream(kind, [getattr(engine, f"open_{kind}")() for engine in self.engines]))
            return
        for engine in self.engines:
            try:
                getattr(engine, f"open_{kind}")()
            except EngineFull:
                continue
            raise Finding("an engine that is full opens a slot")

    def copy(self, stream: Stream) -> None:
        if sum(other.kind == stream.kind for other in self.streams) < ROOM:
            slots = [engine.copy(slot) for engine, slot in zip(self.engines, stream.slots, strict=True)]
            self.streams.append(Stream(stream.kind, slots, stream.wild))

    def close(self, stream: Stream) -> None:
        self.streams.remove(stream)
        for engine, slot in zip(self.engines, stream.slots, strict=True):
            engine.close(slot)
            try:
                engine.reset(slot)
            except UsageError:
                continue
            raise Finding("a closed slot can be used")

    def reset(self, stream: Stream) -> None:
        stream.wild = False
        for engine, slot in zip(self.engines, stream.slots, strict=True):
            engine.reset(slot)

    def save(self, stream: Stream) -> None:
        data = [engine.save(slot) for engine, slot in zip(self.engines, stream.slots, strict=True)]
        self.saved = [*self.saved[-3:], (stream.kind, data, stream.wild)]

    def restore(self, stream: Stream) -> None:
        fitting = [entry for entry in self.saved if entry[0] == stream.kind]
        if not fitting:
            return
        _, saved, wild = fitting[self.random.integers(len(fitting))]
        stream.wild = wild
        for engine, slot, data in zip(self.engines, stream.slots, saved, strict=True):
            try:
                engine.restore(slot, data)
            except UsageError:  # a state that is not finite is refused
                if not wild:
                    raise

    def step(self, stream: Stream) -> None:
        same = [other for other in self.streams if other.kind == stream.kind]
        who = [same[i] for i in self.random.permutation(len(same))[: self.random.integers(1, len(same) + 1)]]
        n_q = self.random.integers(1, self.model.config.n_codebooks + 1, len(who)).tolist()
        slots = [[own.slots[i] for own in who] for i in range(len(self.engines))]
        self.counts["frames"] += len(who)
        if stream.kind == "encoder":
            self._encode(who, slots, n_q)
        else:
            self._decode(who, slots, n_q)

    def _encode(self, who: list[Stream], slots: list[list[int]], n_q: list[int]) -> None:
        frames = np.stack([self._samples(stream) for stream in who])
        expected = self.reference.encode(slots[0], frames, n_q)
        for name, engine, own_slots in zip(self.names, self.natives, slots[1:], strict=True):
            codes = engine.encode(own_slots, frames, n_q)
            for stream, own, other, latent in zip(who, codes, expected, self.watched.latents.double(), strict=True):
                if own.shape != other.shape or own.min() < 0 or own.max() >= self.model.config.codebook_size:
                    raise Finding(f"{name}: {own!r} are no codes, torch has {other!r}")
                if stream.wild or np.array_equal(own, other):
                    continue
                if not self._tie(latent, own, other):
                    raise Finding(f"{name}: {own} for {other}")
                self.counts["ties"] += 1

    def _tie(self, latent: torch.Tensor, own: np.ndarray, other: np.ndarray) -> bool:
        """Returns whether the first codes that differ name entries that are equally near, as far as
        rounding can tell."""
        q = int(np.nonzero(own != other)[0][0])
        rest = latent - sum((self.books[i, int(other[i])] for i in range(q)), torch.zeros(()).double())
        one, two = (self.books[q, int(codes[q])] for codes in (own, other))
        gap = abs(float((rest - one).square().sum() - (rest - two).square().sum()))
        terms = float(rest.square().sum() + torch.maximum(one.square().sum(), two.square().sum()))
        moved = ROUNDING * float(latent.abs().max()) * float((one - two).abs().sum())
        return gap <= 2 * moved + 16 * 2.0**-24 * terms

    def _decode(self, who: list[Stream], slots: list[list[int]], n_q: list[int]) -> None:
        codes = [self.random.integers(0, self.model.config.codebook_size, count).astype(np.int16) for count in n_q]
        expected = self.reference.decode(slots[0], codes)
        most = 1e-5 * max(1.0, float(np.abs(expected).max()))
        for name, engine, own_slots in zip(self.names, self.natives, slots[1:], strict=True):
            apart = np.abs(engine.decode(own_slots, codes) - expected)
            if not apart.max() <= most:
                raise Finding(f"{name}: sound is {apart.max():.2e} from that of torch, {most:.2e} allowed")

    def _samples(self, stream: Stream) -> np.ndarray:
        hop = self.model.hop_length
        if self.random.random() < 0.01:
            stream.wild = True
            return np.full(hop, self.random.choice([-OVERFLOW, OVERFLOW]), np.float32)
        level, what = self.random.choice(LEVELS), self.random.integers(4)
        if what == 0:
            shape = np.ones(hop)
        elif what == 1:
            shape = np.where(np.arange(hop) % 2, 1.0, -1.0)
        elif what == 2:
            shape = np.eye(1, hop, self.random.integers(hop))[0]
        else:
            shape = self.random.standard_normal(hop)
        return (shape * level).astype(np.float32)


def live(number: int, operations: int = 300, model: Model | None = None) -> Counter[str]:
    """Runs the life of this number, which is always the same. Raises Finding."""
    random = np.random.default_rng(number)
    model = model or random_model(random_config(random), number)
    try:
        return Life(model, random).run(operations)
    except Exception as error:
        raise Finding(f"life {number}, {model.config}: {type(error).__name__}: {error}") from error


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.bench.fuzz_engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to go on (10)")
    parser.add_argument("--first", type=int, default=1000, help="number of the first life (1000)")
    parser.add_argument("--life", type=int, help="run this one only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    if options.life is not None:
        counts += live(options.life, model=None if options.life % 10 else codec.load("default", engine="torch"))
        print(dict(counts))
        return 0
    seconds, began, number = 60 * options.minutes, time.monotonic(), options.first
    with Progress(disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("fuzzing", total=seconds)
        while (passed := time.monotonic() - began) < seconds:
            progress.update(task, completed=passed)
            try:
                counts += live(number, model=None if number % 10 else codec.load("default", engine="torch"))
                counts += bad_arguments(number, 500)
            except AssertionError as finding:
                print(finding, file=sys.stderr)
                counts["findings"] += 1
            counts["lives"] += 1
            number += 1
    steps = sum(counts[name] for name in set(OPERATIONS))
    print(f"{counts['lives']} lives, kernels {', '.join(kernel_names())}: {steps} operations, of them")
    print(", ".join(f"{counts[name]} {name}" for name in dict.fromkeys(OPERATIONS)) + f"; {counts['frames']} frames,")
    print(f"{counts['ties']} with entries as near as those of torch. {counts['calls']} calls with random arguments,")
    print(f"{counts['refused']} of them refused. {counts['findings']} findings.")
    return 1 if counts["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
