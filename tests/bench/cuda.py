"""What one CUDA GPU carries: streams that it encodes and decodes within a frame of 13.3 ms, and
whether exactly.

    python -m tests.bench.cuda [--device cpu]

It needs a machine with an NVIDIA GPU and a CUDA build of torch. For every number of streams, up to
the first whose 99th percentile is longer than a frame, it prints the time of a step: frames in,
codes out, copies to and from the GPU among it. Before that, codes and sound of the engine are
compared with those of the torch engine on the CPU. `--device cpu` tries the command out, without
graphs; its times say nothing of a GPU."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from earshot.codec.config import ENCODEC_24KHZ, LITE_24KHZ
from earshot.codec.engine.base import Engine
from earshot.codec.engine.cuda.engine import DTYPES, CudaEngine
from earshot.codec.engine.torch.engine import TorchEngine
from earshot.codec.model.model import Model
from earshot.lab.benchmark.inputs import random_model

TICK_MS = 1000 / ENCODEC_24KHZ.frame_rate
COMPARED_STREAMS, COMPARED_FRAMES = 8, 100


def noise(streams: int, frames: int, hop: int) -> np.ndarray:
    """Returns noise [frames, streams, hop]."""
    return np.random.default_rng(0).standard_normal((frames, streams, hop)).astype(np.float32) * 0.1


def compare(model: Model, engine: Engine, n_q: int) -> None:
    engines = (TorchEngine(model, COMPARED_STREAMS, COMPARED_STREAMS), engine)
    encoders = [[own.open_encoder() for _ in range(COMPARED_STREAMS)] for own in engines]
    decoders = [[own.open_decoder() for _ in range(COMPARED_STREAMS)] for own in engines]
    equal, apart = [], 0.0
    for frame in noise(COMPARED_STREAMS, COMPARED_FRAMES, model.hop_length):
        codes = [own.encode(slots, frame, [n_q] * len(slots)) for own, slots in zip(engines, encoders, strict=True)]
        heard = [own.decode(slots, codes[0]) for own, slots in zip(engines, decoders, strict=True)]
        equal.append(np.equal(*codes).mean())
        apart = max(apart, float(np.abs(heard[0] - heard[1]).max()))
    for own, slots in zip(engines, [a + b for a, b in zip(encoders, decoders, strict=True)], strict=True):
        for slot in slots:
            own.close(slot)
    print(f"  codes equal to torch on the CPU: {100 * np.mean(equal):.3f} %; samples apart by at most {apart:.1e}")


def times_of(run: Callable[[], object], steps: int) -> np.ndarray:
    """Returns the milliseconds of each of `steps` calls."""
    taken = []
    for _ in range(steps):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return np.array(taken) * 1000


def carry(model: Model, precision: str, device: str, n_q: int, most: int, steps: int) -> None:
    began = time.perf_counter()
    engine = CudaEngine(model, most, most, precision, device)
    print(f"{model.name}, {precision}, {most} slots each way, made in {time.perf_counter() - began:.1f} s")
    if device == "cuda":
        print(f"  memory of the GPU in use: {torch.cuda.memory_reserved() / 2**20:.0f} MiB")
    compare(model, engine, n_q)
    encoders, decoders = [engine.open_encoder() for _ in range(most)], [engine.open_decoder() for _ in range(most)]
    (pcm,) = noise(most, 1, model.hop_length)
    codes = list(np.random.default_rng(1).integers(0, model.config.codebook_size, (most, n_q)).astype(np.int16))
    for direction, step in (
        ("encode", lambda count: engine.encode(encoders[:count], pcm[:count], [n_q] * count)),
        ("decode", lambda count: engine.decode(decoders[:count], codes[:count])),
    ):
        count = 1
        while count <= most:
            times_of(partial(step, count), 10)
            taken = times_of(partial(step, count), steps)
            middle, late = np.percentile(taken, [50, 99])
            print(f"  {direction} {count:>5} streams: p50 {middle:7.3f} ms, p99 {late:7.3f} ms", flush=True)
            if late > TICK_MS:
                break
            count *= 2


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m tests.bench.cuda", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=["default", "full"], default=["default", "full"])
    parser.add_argument("--precisions", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--codebooks", type=int, default=8)
    parser.add_argument("--most", type=int, default=1024, help="streams at most")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options = parser.parse_args()
    if options.most < COMPARED_STREAMS:
        parser.error(f"--most must be at least {COMPARED_STREAMS}")
    if options.device == "cuda" and torch.cuda.is_available():
        print(torch.cuda.get_device_name(), "torch", torch.__version__)
    for name in options.models:
        model = random_model({"default": LITE_24KHZ, "full": ENCODEC_24KHZ}[name])
        for precision in options.precisions:
            carry(model, precision, options.device, options.codebooks, options.most, options.steps)


if __name__ == "__main__":
    main()
