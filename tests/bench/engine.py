"""How fast the engines are beside the `encodec` package: one shape, random weights, one thread, one run.

`make bench` or `python -m tests.bench.engine --help`. Every round times each contender once, so that a machine that
drifts drifts for all; figures are medians of the rounds, in milliseconds of processor for a second of sound of one
stream. The package sees whole signals at once, which is what it can do; the engines get every stream frame by frame.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from codec.config import ENCODEC_24KHZ, LITE_24KHZ, ModelConfig
from codec.engine.base import Engine
from codec.engine.native_engine import NativeEngine, kernel_names, pack
from codec.engine.torch_engine import TorchEngine
from codec.model import Model
from codec.network import Encodec

Run = Callable[[], object]
Contenders = dict[str, dict[str, tuple[Run, float]]]
OFFLINE = "encodec, offline"
OFFLINE_SECONDS = 5
SECONDS_A_TURN = 0.2


def reference(config: ModelConfig) -> torch.nn.Module:
    """The package's model of this shape, with random weights."""
    warnings.filterwarnings("ignore", "`torch.nn.utils.weight_norm` is deprecated", FutureWarning)
    sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))  # imported by it, used by its file loader only
    from encodec.model import EncodecModel
    from encodec.modules import SEANetDecoder, SEANetEncoder
    from encodec.quantization import ResidualVectorQuantizer

    shape = {
        "n_filters": config.n_filters,
        "dimension": config.dimension,
        "ratios": list(config.ratios),
        "norm": "weight_norm",
        "causal": True,
        "true_skip": False,
        "pad_mode": "reflect" if config.padding == "reflect" else "constant",
    }
    quantizer = ResidualVectorQuantizer(
        dimension=config.dimension, n_q=config.n_codebooks, bins=config.codebook_size, kmeans_init=False
    )
    model = EncodecModel(
        SEANetEncoder(**shape), SEANetDecoder(**shape), quantizer, list(config.bandwidths), config.sample_rate, 1
    )
    return model.eval()


def random_model(config: ModelConfig) -> Model:
    torch.manual_seed(0)
    network = Encodec(config)
    with torch.no_grad():
        network.quantizer.codebooks.normal_(std=0.05)
    return Model(network)


def contenders(model: Model, n_q: int, batch: int, kernels: list[str]) -> Contenders:
    """direction -> name -> (a step, seconds of sound in it)."""
    random = np.random.default_rng(0)
    pcm = random.standard_normal((batch, model.hop_length)).astype(np.float32) * 0.1
    codes = list(random.integers(0, model.config.codebook_size, (batch, n_q)).astype(np.int16))
    found: Contenders = {"encode": {}, "decode": {}}
    engines: dict[str, Engine] = {"torch": TorchEngine(model, batch, batch)}
    for name in kernels:
        engines[f"native, {name}"] = NativeEngine(model, batch, batch, pack(model, name))
    sound = batch / model.frame_rate
    counts = [n_q] * batch
    for name, engine in engines.items():
        encoders = [engine.open_encoder() for _ in range(batch)]
        decoders = [engine.open_decoder() for _ in range(batch)]
        found["encode"][name] = partial(engine.encode, encoders, pcm, counts), sound
        found["decode"][name] = partial(engine.decode, decoders, codes), sound
    package: Any = reference(model.config)
    package.set_target_bandwidth(n_q * model.config.kbps_per_codebook)
    signal = torch.randn(1, 1, OFFLINE_SECONDS * model.sample_rate) * 0.1
    with torch.inference_mode():
        whole = package.encode(signal)
    found["encode"][OFFLINE] = (lambda: package.encode(signal), OFFLINE_SECONDS)
    found["decode"][OFFLINE] = (lambda: package.decode(whole), OFFLINE_SECONDS)
    return found


def turn(run: Run, sound: float) -> float:
    """Milliseconds of processor for a second of sound: the median of the steps that fit into a turn's time. The time
    that other programs take is not counted; what they take of the caches is."""
    times: list[float] = []
    end = time.thread_time() + SECONDS_A_TURN
    while not times or time.thread_time() < end:
        began = time.thread_time()
        run()
        times.append(time.thread_time() - began)
    return statistics.median(times) * 1000 / sound


def compare(name: str, config: ModelConfig, n_q: int, batch: int, rounds: int, kernels: list[str]) -> None:
    for direction, runs in contenders(random_model(config), n_q, batch, kernels).items():
        times: dict[str, list[float]] = {own: [] for own in runs}
        for own, (run, _) in runs.items():
            for _ in range(1 if own == OFFLINE else 3):
                run()
        for _ in range(rounds):
            for own, (run, sound) in runs.items():
                times[own].append(turn(run, sound))
        offline = statistics.median(times[OFFLINE])
        for own, values in times.items():
            middle = statistics.median(values)
            print(
                f"{name:<8} {direction}  B {batch:>2}  {own:<17} {middle:8.2f} ms/s  "
                f"{1000 / middle:7.1f} streams a core  {offline / middle:6.2f} x encodec offline",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=["default", "full"], default=["default", "full"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32], metavar="B")
    parser.add_argument("--codebooks", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kernels", nargs="+", choices=kernel_names(), default=kernel_names()[:1])
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    shapes = {"default": LITE_24KHZ, "full": ENCODEC_24KHZ}
    with torch.inference_mode():
        for name in options.models:
            for batch in options.batches:
                compare(name, shapes[name], options.codebooks, batch, options.rounds, options.kernels)


if __name__ == "__main__":
    main()
