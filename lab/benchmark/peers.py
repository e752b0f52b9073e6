"""Other packages that are measured if they are installed: `encodec`, `transformers` and Opus on
whole signals, and two runtimes on a graph of one step of our codec."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

from earshot.codec.config import ENCODEC_24KHZ, ModelConfig
from earshot.lab.benchmark.candidates import Candidate, Task
from earshot.lab.benchmark.runtimes import ONNXRUNTIME, OPENVINO, onnxruntime, openvino
from earshot.lab.evaluation import opus

ENCODEC, TRANSFORMERS, OPUS = "encodec", "transformers", "opus"
EXTRA = "pip install 'earshot[bench]'"


def encodec_package() -> ModuleType:
    """Imports the package `encodec` with an empty module in place of torchaudio.

    The package imports torchaudio, which has builds for few machines, but uses it for reading files
    only."""
    if importlib.util.find_spec("torchaudio") or "torchaudio" in sys.modules:
        return importlib.import_module("encodec")
    stub = ModuleType("torchaudio")
    stub.__spec__ = ModuleSpec("torchaudio", None)
    sys.modules["torchaudio"] = stub
    try:
        return importlib.import_module("encodec")
    finally:
        del sys.modules["torchaudio"]


def published_shape(config: ModelConfig) -> ModelConfig:
    """Returns the shape that the packages can build: a model with widths of its own is compared
    with the published row of ratios, of which 16 filters are about as much work."""
    if config.widths is None:
        return config
    return replace(config, n_filters=16, widths=None, ratios=ENCODEC_24KHZ.ratios)


def encodec_model(config: ModelConfig) -> Any:
    """Returns the package's model of this shape, with random weights."""
    package, config = encodec_package(), published_shape(config)
    shape = {
        "n_filters": config.n_filters,
        "dimension": config.dimension,
        "ratios": list(config.ratios),
        "norm": "weight_norm",
        "causal": True,
        "true_skip": False,
        "pad_mode": "reflect" if config.padding == "reflect" else "constant",
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.nn.utils.weight_norm` is deprecated", FutureWarning)
        encoder, decoder = package.modules.SEANetEncoder(**shape), package.modules.SEANetDecoder(**shape)
    quantizer = package.quantization.ResidualVectorQuantizer(
        dimension=config.dimension, n_q=config.n_codebooks, bins=config.codebook_size, kmeans_init=False
    )
    rates = list(config.bandwidths)
    return package.model.EncodecModel(encoder, decoder, quantizer, rates, config.sample_rate, 1).eval()


def encodec_offline(task: Task) -> Iterator[Candidate]:
    model = encodec_model(task.model.config)
    model.set_target_bandwidth(task.n_q * task.model.config.kbps_per_codebook)
    signal = torch.from_numpy(task.pcm)[None, None]
    with torch.inference_mode():
        codes = model.encode(signal)

    @torch.inference_mode()
    def step() -> None:
        model.encode(signal) if task.direction == "encode" else model.decode(codes)

    yield Candidate(task.key(ENCODEC, whole=True), step, task.seconds)


def transformers_offline(task: Task) -> Iterator[Candidate]:
    from transformers import EncodecConfig, EncodecModel

    shape, kbps = published_shape(task.model.config), task.n_q * task.model.config.kbps_per_codebook
    torch.manual_seed(0)
    config = EncodecConfig(
        target_bandwidths=list(shape.bandwidths),
        num_filters=shape.n_filters,
        hidden_size=shape.dimension,
        upsampling_ratios=list(shape.ratios),
        codebook_size=shape.codebook_size,
        pad_mode="reflect" if shape.padding == "reflect" else "constant",
    )
    make: Any = EncodecModel
    model = make(config).eval()
    signal = torch.from_numpy(task.pcm)[None, None]
    with torch.inference_mode():
        coded = model.encode(signal, bandwidth=kbps)

    @torch.inference_mode()
    def step() -> None:
        if task.direction == "encode":
            model.encode(signal, bandwidth=kbps)
        else:
            model.decode(coded.audio_codes, coded.audio_scales)

    yield Candidate(task.key(TRANSFORMERS, whole=True), step, task.seconds)


def opus_voip(task: Task) -> Iterator[Candidate]:
    """Yields Opus at the codec's rate; the time includes what PyAV takes to make frames."""
    codec = opus.Opus(task.n_q * task.model.config.kbps_per_codebook)
    signal, rate = task.pcm, task.model.sample_rate
    header, packets = codec.encode(signal, rate)

    def step() -> None:
        codec.encode(signal, rate) if task.direction == "encode" else codec.decode(header, packets)

    yield Candidate(task.key(OPUS, whole=True), step, task.seconds)


@dataclass(frozen=True)
class Peer:
    packages: tuple[str, ...]
    how: str
    make: Callable[[Task], Iterator[Candidate]]
    once: bool = False
    """It does not depend on the batch."""

    @property
    def installed(self) -> bool:
        return all(importlib.util.find_spec(package) for package in self.packages)


PEERS: dict[str, Peer] = {
    ENCODEC: Peer(("encodec", "einops"), f"{EXTRA} && pip install --no-deps encodec==0.1.1", encodec_offline),
    TRANSFORMERS: Peer(("transformers",), EXTRA, transformers_offline, once=True),
    ONNXRUNTIME: Peer(("onnx", "onnxruntime"), EXTRA, onnxruntime),
    OPENVINO: Peer(("onnx", "openvino"), EXTRA, openvino),
    OPUS: Peer((opus.PACKAGE,), EXTRA, opus_voip, once=True),
}


def what_is_missing(names: Sequence[str]) -> list[str]:
    """Returns a line for each peer that is not installed, with the way to install it."""
    return [f"{name} is not installed: {PEERS[name].how}" for name in names if not PEERS[name].installed]
