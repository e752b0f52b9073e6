"""Fixtures that many tests share: the official packages as references, models with random weights,
and speech."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import HealthCheck, settings
from torch import nn

from earshot.codec.config import ModelConfig
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.codec.pcm import Pcm
from earshot.lab.benchmark.peers import encodec_package
from earshot.lab.training.initial import initialise
from tests.stereo import Stereo, load_stereo, make_music

VOICES = Path(__file__).parents[1] / "lab" / "voices"
SAMPLE_RATE, BANDWIDTHS = 24_000, [1.5, 3.0, 6.0, 12.0, 24.0]

# On a busy machine any example can be slow; pytest's own timeout ends tests that hang.
settings.register_profile("earshot", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("earshot")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Returns how many processes `-n auto` means: as many as tests/parallel.py has work for, one of
    which mostly waits."""
    from tests.parallel import MOST_PROCESSES

    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_PROCESSES, processors + 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.parallel import Scheduling

    return Scheduling(config, log)


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's `make test &` has it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        from tests.parallel import give_way

        give_way(config.workerinput["workerid"])


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Models this small gain nothing from threads, and the order of additions must not depend on
    the machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def speech() -> Pcm:
    """Returns 20 s of the demo voices at 24 kHz, and 137 samples more so that the last frame is
    partial."""
    parts = []
    for file in sorted(VOICES.glob("*.flac")):
        samples, rate = soundfile.read(file, dtype="float32")
        parts.append(np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), np.float32))
    pcm = np.concatenate(parts)[: 20 * SAMPLE_RATE + 137]
    assert pcm.size == 20 * SAMPLE_RATE + 137, "the demo voices are too short"
    return pcm


@pytest.fixture(scope="session")
def tiny_model() -> Model:
    """Returns a small model whose codes follow its input."""
    torch.manual_seed(7)
    config = ModelConfig(name="tiny", n_filters=4, n_codebooks=16, bandwidths=(1.5, 3.0, 6.0, 12.0), padding="zeros")
    network = Encodec(config)
    initialise(network)
    with torch.no_grad():
        latents, _ = network.encoder.step(0.1 * torch.randn(1, 1, SAMPLE_RATE), None, "zeros", last=True)
        _fill_codebooks(list(network.quantizer.codebooks), latents)
    return Model(network)


@pytest.fixture(scope="session")
def encodec() -> ModuleType:
    """Returns the official package."""
    return encodec_package()


@pytest.fixture(scope="session")
def random_encodec(encodec: ModuleType, speech: Pcm) -> Callable[..., Any]:
    """Returns a function (n_filters=32, padding="reflect", seed=0, n_q=32, ratios=(8, 5, 4, 2))
    that makes the official causal 24 kHz model with random weights; `padding` is "reflect" or
    "constant". Its activations have about unit variance, and its codebooks have the scale of what
    they code, so that every layer and every codebook matters."""

    def make(
        n_filters: int = 32,
        padding: str = "reflect",
        seed: int = 0,
        n_q: int = 32,
        ratios: tuple[int, ...] = (8, 5, 4, 2),
    ) -> Any:
        torch.manual_seed(seed)
        settings: dict[str, Any] = {"norm": "weight_norm", "causal": True, "pad_mode": padding, "n_filters": n_filters}
        with warnings.catch_warnings():
            # The package uses the old weight norm, because its files do.
            warnings.filterwarnings("ignore", "`torch.nn.utils.weight_norm` is deprecated", FutureWarning)
            encoder = encodec.modules.SEANetEncoder(ratios=list(ratios), **settings)
            decoder = encodec.modules.SEANetDecoder(ratios=list(ratios), **settings)
        quantizer = encodec.quantization.ResidualVectorQuantizer(dimension=128, n_q=n_q, bins=1024)
        rates = [kbps for kbps in BANDWIDTHS if kbps / 0.75 <= n_q]
        model = encodec.model.EncodecModel(encoder, decoder, quantizer, rates, SAMPLE_RATE, 1).eval()
        with torch.no_grad():
            latents = _unit_variance(encoder, torch.from_numpy(speech[: 2 * SAMPLE_RATE])[None, None])
            _fill_codebooks([layer._codebook.embed for layer in quantizer.vq.layers], latents)
            _unit_variance(decoder, latents)
            decoder.model[-1].conv.conv.weight_g.mul_(0.1)
            for layer in quantizer.vq.layers:
                layer._codebook.inited.fill_(1)
        return model

    return make


@pytest.fixture(scope="session")
def save_official() -> Callable[[Any, Path], Path]:
    """Returns a function that saves the state dict of an official model in a folder, in a file
    named as official files are."""

    def save(model: Any, folder: Path) -> Path:
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        path = folder / f"random-{digest[:8]}.th"
        path.write_bytes(buffer.getvalue())
        return path

    return save


@torch.no_grad()
def _unit_variance(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Scales each convolution of an official network so that its output for `x` has unit variance.
    Returns the output of the scaled network."""

    def scale(conv: Any, _: Any, y: torch.Tensor) -> torch.Tensor:
        factor = 1 / y.std()
        conv.weight_g.mul_(factor)
        conv.bias.mul_(factor)
        return y * factor

    hooks = [
        module.register_forward_hook(scale)
        for module in net.modules()
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d)
    ]
    y: torch.Tensor = net(x)
    for hook in hooks:
        hook.remove()
    return y


@torch.no_grad()
def _fill_codebooks(codebooks: list[torch.Tensor], latents: torch.Tensor) -> None:
    """Fills codebooks with Gaussian entries of the scale that leaves the smallest residual (3.2 is
    the expected best of 1024 draws)."""
    residual = latents[0].t()
    for codebook in codebooks:
        dimension = codebook.shape[1]
        codebook.copy_(torch.randn_like(codebook) * residual.pow(2).mean().sqrt() * 3.2 / dimension**0.5)
        residual = residual - codebook[torch.cdist(residual, codebook).argmin(dim=1)]


@pytest.fixture(scope="module")
def music(speech: Pcm) -> Pcm:
    return make_music(speech)


@pytest.fixture(scope="module", params=[4, 32], ids=["small", "full size"])
def stereo(
    request: pytest.FixtureRequest,
    encodec: ModuleType,
    save_official: Callable[[Any, Path], Path],
    music: Pcm,
    tmp_path_factory: pytest.TempPathFactory,
) -> Stereo:
    return load_stereo(encodec, request.param, music, save_official, tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def small(encodec: ModuleType, save_official: Any, music: Pcm, tmp_path_factory: pytest.TempPathFactory) -> Stereo:
    return load_stereo(encodec, 4, music, save_official, tmp_path_factory.mktemp("official"))
