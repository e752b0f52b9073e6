"""A run that trains a language model in a folder: codes, steps, checkpoints, and what one wants to see meanwhile."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from codec.integer_lm import LmShape
from codec.model import Model
from codec.training.lm_network import LmNetwork

REPORT_STEPS = 100


@dataclass(frozen=True)
class LmSettings:
    """What a run is made of. All of it but `steps` stays the same when a run goes on."""

    kbps: float = 6.0
    """The finest rate that is learned; codebooks beyond it are coded as they are."""
    passes: int = 8
    steps: int = 10_000
    batch: int = 12
    seconds: float = 4.0
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    dropout: float = 0.1
    average: float = 0.999
    """Decay of the running mean of the weights, which is what is kept."""
    seed: int = 0


def shape_for(model: Model, kbps: float) -> LmShape:
    """Groups of codebooks as the model's rates have them, up to `kbps`."""
    config = model.config
    groups = tuple(sorted({config.n_q(rate) for rate in config.bandwidths if rate <= kbps} | {config.n_q(kbps)}))
    longest, shorter = (1, 2, 4, 8, 16, 32, 64, 128), (1, 2, 4, 8, 16)
    return LmShape(groups, (longest, *[shorter] * (len(groups) - 1)), config.codebook_size)


class LmTrainer:
    def __init__(self, model: Model, settings: LmSettings) -> None:
        self.settings, self.step = settings, 0
        torch.manual_seed(settings.seed)
        self.network = LmNetwork(shape_for(model, settings.kbps))
        self.network.start_from(model.network.quantizer.codebooks)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            settings.learning_rate,
            (0.9, 0.98),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.mean = [parameter.detach().clone() for parameter in self.network.parameters()]

    def rate(self) -> float:
        """Up for 200 steps, then to zero along a half cosine."""
        settings = self.settings
        rise = min(1.0, (self.step + 1) / 200)
        return settings.learning_rate * rise * (0.5 + 0.5 * math.cos(math.pi * min(1.0, self.step / settings.steps)))

    def advance(self, codes: torch.Tensor) -> list[float]:
        """One step; bits for each code of each codebook. A function of weights, codes, seed and number."""
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        self.network.train()
        with torch.autocast("cpu", torch.bfloat16):
            bits = self.network(codes, self.settings.dropout)
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
        """The running mean of the weights."""
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
