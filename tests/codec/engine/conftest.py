"""Engines under test, and the models that they are compared on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from earshot import codec
from earshot.codec.config import ModelConfig
from earshot.codec.engine.base import Engine
from earshot.codec.engine.cuda.engine import CudaEngine
from earshot.codec.engine.native.engine import NativeEngine, kernel_names, pack
from earshot.codec.engine.torch.engine import TorchEngine
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec

MakeEngine = Callable[..., Engine]
KERNELS = kernel_names()
CUDA_ENGINE_ON = {"cuda engine on the CPU": "cpu", **({"cuda": "cuda"} if torch.cuda.is_available() else {})}
"""Devices that the engine for CUDA is tested on. On the CPU it has masks and slots, but no
graphs."""

ODD = {
    "two of everything": ModelConfig(
        name="two of everything",
        n_filters=4,
        dimension=20,
        ratios=(4, 2, 3),
        kernel_size=5,
        last_kernel_size=3,
        residual_kernel_size=2,
        n_residual_layers=3,
        dilation_base=3,
        compress=3,
        lstm_layers=1,
        n_codebooks=5,
        codebook_size=64,
        bandwidths=(30.0,),
    ),
    "one stage": ModelConfig(
        name="one stage",
        n_filters=20,
        dimension=1,
        ratios=(1,),
        compress=1,
        lstm_layers=3,
        codebook_size=2,
        n_codebooks=3,
        bandwidths=(72.0,),
        last_kernel_size=1,
    ),
    "steep": ModelConfig(
        name="steep",
        n_filters=8,
        widths=(8, 24, 40, 40),
        dimension=16,
        ratios=(1, 4, 10),
        n_residual_layers=2,
        dilation_base=1,
        lstm_layers=1,
        n_codebooks=3,
        codebook_size=64,
        bandwidths=(10.8,),
    ),
    "wide": ModelConfig(
        name="wide",
        n_filters=96,
        dimension=33,
        ratios=(16,),
        residual_kernel_size=7,
        n_codebooks=2,
        codebook_size=512,
        bandwidths=(30.0,),
    ),
}


@torch.no_grad()
def random_model(config: ModelConfig) -> Model:
    torch.manual_seed(5)
    network = Encodec(config)
    for parameter in network.parameters():
        parameter.mul_(1.5)
    pcm = torch.randn(1, 1, 500 * config.hop_length) * 0.3
    residual, _ = network.encoder.step(pcm, None, "zeros", last=True)
    for codebook in network.quantizer.codebooks:
        codebook.copy_(residual[0, :, torch.randperm(500)[:1].repeat(len(codebook))].t() * 0.3)
        codebook.add_(torch.randn_like(codebook) * residual.std())
    return Model(network)


@pytest.fixture(scope="session")
def odd_models() -> dict[str, Model]:
    """Models whose channels, kernels, dilations and codebooks do not fill whole vectors."""
    return {name: random_model(config) for name, config in ODD.items()}


@pytest.fixture(scope="session")
def full_model(
    random_encodec: Callable[..., Any], save_official: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Model:
    """Returns a model of the official 24 kHz shape with random weights."""
    return codec.load(str(save_official(random_encodec(), tmp_path_factory.mktemp("full"))))


@pytest.fixture(params=["torch", *CUDA_ENGINE_ON, *KERNELS])
def make_engine(request: pytest.FixtureRequest) -> MakeEngine:
    """Returns a function (model, encoders=64, decoders=64) that makes an engine: torch, the engine
    for CUDA on each available device, and native with each set of kernels in turn."""

    def make(model: Model, encoders: int = 64, decoders: int = 64) -> Engine:
        if request.param in CUDA_ENGINE_ON:
            return CudaEngine(model, encoders, decoders, device=CUDA_ENGINE_ON[request.param])
        if request.param == "torch":
            return TorchEngine(model, encoders, decoders)
        return NativeEngine(model, encoders, decoders, pack(model, request.param))

    return make
