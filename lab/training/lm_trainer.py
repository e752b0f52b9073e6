"""One step of training a language model: bits, gradients, weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from earshot.codec.lm.integer_lm import LmShape
from earshot.codec.model.model import Model
from earshot.lab.training.fast.build import bf16_pays
from earshot.lab.training.lm_data import Codes
from earshot.lab.training.lm_network import LmNetwork

CPU = torch.device("cpu")

RISE = 200
"""Steps over which the learning rate comes to its full height."""


@dataclass(frozen=True)
class LmSettings:
    """What a run is made of. All of it but `steps` stays the same when a run goes on."""

    kbps: float = 6.0
    """The finest rate that is learned; codebooks beyond it are coded as they are."""
    passes: int = 8
    steps: int = 3_000
    batch: int = 12
    seconds: float = 4.0
    """Of a crop, which begins as a stream does; of a model that codes in windows, crops are
    windows."""
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    dropout: float = 0.1
    average: float = 0.99
    """Decay of the running mean of the weights, which is what is kept. A thousand steps are too
    long a memory for runs of a few thousand: with 0.999 the default's took 4 % more bits than its
    last weights."""
    seed: int = 0
    precision: Literal["bf16", "fp32"] = "bf16"


def shape_for(model: Model, kbps: float) -> LmShape:
    """Groups of codebooks as the model's rates have them, up to `kbps`. Raises UsageError for a
    rate it lacks."""
    config = model.config
    groups = tuple(sorted({config.n_q(rate) for rate in config.bandwidths if rate <= kbps} | {config.n_q(kbps)}))
    longest, shorter = (1, 2, 4, 8, 16, 32, 64, 128), (1, 2, 4, 8, 16)
    return LmShape(groups, (longest, *[shorter] * (len(groups) - 1)), config.codebook_size)


class LmTrainer:
    """Each step is a function of weights, codes, seed and number."""

    def __init__(self, model: Model, settings: LmSettings, device: torch.device = CPU) -> None:
        self.settings, self.device, self.step = settings, device, 0
        self.half = settings.precision == "bf16" and bf16_pays(device)
        torch.manual_seed(settings.seed)
        self.network = LmNetwork(shape_for(model, settings.kbps))
        self.network.start_from(model.network.quantizer.codebooks)
        self.network.to(device)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            settings.learning_rate,
            (0.9, 0.98),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.mean = [parameter.detach().clone() for parameter in self.network.parameters()]

    def rate(self) -> float:
        """Up for RISE steps, then to zero along a half cosine."""
        settings = self.settings
        rise = min(1.0, (self.step + 1) / RISE)
        return settings.learning_rate * rise * (0.5 + 0.5 * math.cos(math.pi * min(1.0, self.step / settings.steps)))

    def advance(self, codes: torch.Tensor) -> list[float]:
        """One step with int64 codes [B, n_q, T]; bits for each code, by codebook."""
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        self.network.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            bits = self.network(codes.to(self.device), self.settings.dropout)
        self.optimiser.zero_grad()
        bits.sum(1).mean().backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 20.0)
        self.optimiser.step()
        self.step += 1
        weight = min(self.settings.average, 1 - 1 / self.step)
        for mean, parameter in zip(self.mean, self.network.parameters(), strict=True):
            mean.lerp_(parameter.detach(), 1 - weight)
        return [float(value) for value in bits.detach().mean((0, 2))]

    def exported(self) -> LmNetwork:
        """The running mean of the weights, on the CPU."""
        network = LmNetwork(self.network.shape)
        with torch.no_grad():
            for parameter, mean in zip(network.parameters(), self.mean, strict=True):
                parameter.copy_(mean)
        return network.eval()

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "settings": asdict(self.settings),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "mean": self.mean,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for mean, saved in zip(self.mean, state["mean"], strict=True):
            mean.copy_(saved)
        self.step = int(state["step"])


@torch.no_grad()
def bits_of(network: LmNetwork, streams: Sequence[Codes]) -> NDArray[np.float64]:
    """[n_q]: bits for each code, of streams from their start, each of which counts the same."""
    each = [network(torch.from_numpy(codes.astype(np.int64))[None])[0].mean(1).numpy() for codes in streams]
    return np.asarray(np.mean(each, axis=0), np.float64)
