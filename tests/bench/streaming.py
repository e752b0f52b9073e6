"""Streaming sessions beside the `encodec` package's offline model: one shape, one signal, one run.

`make bench` or `python -m tests.bench.streaming --help`. The reference sees the whole clip at once, which is what it
can do; the sessions get it frame by frame, as a call does. A ratio above 1 is what streaming costs.
"""

from __future__ import annotations

import argparse
import sys
import time
import types
import warnings
from collections.abc import Callable

import numpy as np
import torch

from codec.config import ENCODEC_24KHZ, LITE_24KHZ, ModelConfig
from codec.model import Model
from codec.network import Encodec


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


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The best of `repeats` runs: what disturbs a run only ever makes it longer."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def compare(config: ModelConfig, kbps: float, length: float, repeats: int) -> None:
    torch.manual_seed(0)
    network = Encodec(config)
    network.quantizer.codebooks.normal_()
    model = Model(network)
    other = reference(config)
    other.set_target_bandwidth(kbps)
    frames = int(length * config.frame_rate)
    pcm = np.random.default_rng(0).normal(0, 0.1, frames * config.hop_length).astype(np.float32)
    whole = torch.from_numpy(pcm)[None, None]
    blocks = pcm.reshape(frames, config.hop_length)
    codes = model.encode(pcm, kbps)

    def stream_encode() -> None:
        session = model.encoder(kbps)
        for block in blocks:
            session.push(block)

    def stream_decode() -> None:
        session = model.decoder()
        for i in range(frames):
            session.push(codes[:, i : i + 1])

    with torch.no_grad():
        encoded = other.encode(whole)
        rows = [
            ("encode", seconds(stream_encode, repeats), seconds(lambda: other.encode(whole), repeats)),
            ("decode", seconds(stream_decode, repeats), seconds(lambda: other.decode(encoded), repeats)),
        ]
    for name, ours, theirs in rows:
        print(
            f"{config.name:14} {name}  {kbps:4g} kbps  streaming {1000 * ours / length:7.1f} ms"
            f"  encodec offline {1000 * theirs / length:7.1f} ms  ratio {ours / theirs:5.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Milliseconds of one thread for each second of audio.")
    parser.add_argument("--kbps", type=float, default=6.0)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the audio")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} thread(s); milliseconds for each second of audio")
    for config in (LITE_24KHZ, ENCODEC_24KHZ):
        compare(config, arguments.kbps, arguments.seconds, arguments.repeats)


if __name__ == "__main__":
    main()
