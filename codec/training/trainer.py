"""The training loop: a pure function of its settings and the step it stands at, so that a break changes nothing."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from codec.config import LITE_24KHZ, ModelConfig
from codec.errors import UsageError, WeightsError
from codec.network import Encodec
from codec.seanet import Conv1d, ConvTranspose1d, ResidualUnit, SEANet
from codec.training.balancer import Balancer
from codec.training.codebooks import CodebookLearner
from codec.training.data import CropSource
from codec.training.losses import MelLoss, relative_l1


@dataclass(frozen=True)
class TrainSettings:
    """What a run does. Rates and shares were found on two cores with 100 minutes of speech (docs/training.md)."""

    model: ModelConfig = LITE_24KHZ
    steps: int = 20_000
    batch: int = 14
    crop_frames: int = 48
    learning_rate: float = 1e-3
    decay_steps: int = 6_000
    """The last steps, over which the learning rate falls to zero along a half cosine."""
    warmup_steps: int = 700
    """First steps without quantizer, on the waveform alone; the codebooks start from what they lead to."""
    turn_steps: int = 1_500
    """Steps over which the loss turns from the waveform to the spectrum, after the warm-up."""
    mel_share: float = 20.0
    """Final weight of the mel loss in the balancer; the waveform's is 1."""
    commitment: float = 0.25
    clip_gradient: float = 20.0
    bfloat16: bool = True
    """Convolutions and LSTM in bfloat16, everything else in float32: half the time on CPUs that have it."""
    seed: int = 1
    checkpoint_minutes: float = 3.0


def initialise(network: Encodec) -> None:
    """Variance-preserving weights. With torch's defaults the latents carry nothing for hundreds of steps."""
    for module in network.modules():
        if isinstance(module, Conv1d | ConvTranspose1d):
            per_output = (
                module.weight[0].numel()
                if isinstance(module, Conv1d)
                else (module.weight.shape[0] * module.weight.shape[2] / module.stride[0])
            )
            nn.init.normal_(module.weight, std=math.sqrt(1.4 / per_output))
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, ResidualUnit):
                module.widen.weight *= 0.5
                module.shortcut.weight *= 0.8
        cast(Conv1d, network.decoder.layers[-1]).weight *= 0.1


def add_weight_norm(network: Encodec) -> None:
    """Does nothing to models that are normalised over time instead."""
    if network.config.norm != "weight":
        return
    for module in network.modules():
        if isinstance(module, Conv1d | ConvTranspose1d):
            weight_norm(module)


def fold_weight_norm(network: Encodec) -> None:
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


class Trainer:
    """One run in one folder: `checkpoint.pt` (resumable), `model.safetensors` (usable), `log.jsonl`."""

    def __init__(self, settings: TrainSettings, data: CropSource, folder: Path) -> None:
        self.settings, self.data, self.folder = settings, data, folder
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(settings.seed)
        self.network = Encodec(settings.model)
        initialise(self.network)
        add_weight_norm(self.network)
        self.learner = CodebookLearner(self.network.quantizer)
        self.mel = MelLoss(settings.model.sample_rate)
        self.balancer = Balancer()
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, betas=(0.8, 0.99), weight_decay=0.01
        )
        self.step = 0
        self.seconds = 0.0

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    # -- schedule ------------------------------------------------------------------------------------------

    def learning_rate(self) -> float:
        """Linear rise over 200 steps, constant, then a half cosine to zero over the last `decay_steps`."""
        s = self.settings
        left = max(0, s.steps - self.step) / min(s.decay_steps, s.steps)
        decay = 0.5 * (1 - math.cos(math.pi * left)) if left < 1 else 1.0
        return s.learning_rate * min(1.0, (self.step + 1) / 200) * decay

    def loss_weights(self) -> dict[str, float]:
        s = self.settings
        turned = min(1.0, max(0.0, (self.step - s.warmup_steps) / s.turn_steps))
        return {"l1": 1.0, "mel": 0.1 * (s.mel_share / 0.1) ** turned}

    # -- one step ------------------------------------------------------------------------------------------

    def advance(self) -> dict[str, float]:
        """Does one step and returns its losses."""
        s = self.settings
        torch.manual_seed(s.seed * 1_000_003 + self.step)
        if self.step == s.warmup_steps:
            self._start_codebooks()
        spoken = self._batch(self.step)
        latents = self._run(self.network.encoder, spoken)
        commitment = latents.new_zeros(())
        codes: Tensor | None = None
        if self.step >= s.warmup_steps:
            latents, commitment, codes = self.learner(latents, self._bandwidth())
        heard = self._run(self.network.decoder, latents)
        losses = {"l1": relative_l1(heard, spoken), "mel": self.mel(heard[:, 0], spoken[:, 0])}
        gradient = self.balancer.gradient(losses, self.loss_weights(), heard)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad()
        if codes is None:
            torch.autograd.backward([heard], [gradient])
        else:
            torch.autograd.backward([heard, s.commitment * commitment], [gradient, None])
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), s.clip_gradient)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        used = [len(c.unique()) for c in codes[[0, -1]]] if codes is not None else [0, 0]
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        return values | {
            "commitment": float(commitment.detach()),
            "norm": float(norm),
            "used_first": used[0],
            "used_last": used[1],
        }

    def _run(self, net: SEANet, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.settings.bfloat16):
            y, _ = net.step(x, None, self.settings.model.padding, last=True)
        return y.float()

    def _batch(self, step: int) -> Tensor:
        return torch.from_numpy(self.data.batch(self.settings.batch, self.settings.seed, step))[:, None]

    def _bandwidth(self) -> int:
        """A random one of the model's bandwidths, as a number of codebooks (paper, section 3.2)."""
        choices = self.settings.model.bandwidths
        return self.settings.model.n_q(choices[int(torch.randint(len(choices), ()))])

    @torch.no_grad()
    def _start_codebooks(self) -> None:
        """A batch has fewer latents than a codebook has entries: collect 25 latents for each entry."""
        wanted, collected, extra = 25 * self.settings.model.codebook_size, 0, 1
        parts = []
        while collected < wanted:
            batch = self._batch(self.settings.steps + extra)
            latents = self._run(self.network.encoder, batch)
            parts.append(latents.transpose(1, 2).reshape(-1, latents.shape[1]))
            collected, extra = collected + parts[-1].shape[0], extra + 1
        self.learner.start(torch.cat(parts))

    # -- checkpoints ---------------------------------------------------------------------------------------

    def save(self) -> None:
        """Writes the checkpoint and the model as it is now; a crash while writing leaves the old ones."""
        state = {
            "network": self.network.state_dict(),
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "balancer": self.balancer.state(),
            "step": self.step,
            "seconds": self.seconds,
            "config": self.settings.model.to_dict(),
        }
        partial = self.checkpoint.with_suffix(".part")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)
        self.export(self.folder / "model.safetensors")

    def resume(self) -> None:
        """Goes on from `checkpoint.pt`. Raises WeightsError if it is damaged, UsageError if of another model."""
        try:
            state = torch.load(self.checkpoint, weights_only=True)
            saved = ModelConfig.from_dict(state["config"])
        except Exception as error:  # torch.load has no list of what a damaged file makes it raise
            raise WeightsError(f"{self.checkpoint} cannot be read ({error}); delete it to start again") from error
        if saved != self.settings.model:
            raise UsageError(f"{self.checkpoint} is of another model; choose another --out folder")
        try:
            self.network.load_state_dict(state["network"])
            self.learner.load_state_dict(state["learner"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.balancer.load(state["balancer"])
            self.step, self.seconds = state["step"], state["seconds"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise WeightsError(f"{self.checkpoint} is incomplete ({error}); delete it to start again") from error

    def export(self, path: Path) -> None:
        """The weights alone, weight norm folded, as `codec.load` reads them."""
        from codec.weights import save_native

        plain = Encodec(self.settings.model)
        add_weight_norm(plain)
        plain.load_state_dict(self.network.state_dict())
        fold_weight_norm(plain)
        save_native(plain, path)

    # -- the run -------------------------------------------------------------------------------------------

    def run(self, console: Console) -> None:
        """Trains to the last step. Ctrl-C saves and leaves."""
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[losses]}"),
        )  # fmt: skip
        mean: dict[str, float] = {}
        saved = time.monotonic()
        with Progress(*columns, console=console) as progress, (self.folder / "log.jsonl").open("a") as log:
            task = progress.add_task("training", total=self.settings.steps, completed=self.step, losses="")
            try:
                while self.step < self.settings.steps:
                    began = time.monotonic()
                    for name, value in self.advance().items():
                        mean[name] = value if name not in mean else 0.98 * mean[name] + 0.02 * value
                    self.seconds += time.monotonic() - began
                    shown = f"l1 {mean['l1']:.3f}  mel {mean['mel']:.3f}"
                    progress.update(task, completed=self.step, losses=shown)
                    if self.step % 100 == 0:
                        self._report(log, mean, console)
                    if time.monotonic() - saved > 60 * self.settings.checkpoint_minutes:
                        self.save()
                        saved = time.monotonic()
            finally:
                self.save()

    def _report(self, log: Any, mean: dict[str, float], console: Console) -> None:
        row = {"step": self.step, "seconds": round(self.seconds), "lr": self.learning_rate(), **mean}
        log.write(json.dumps({key: float(f"{value:.5g}") for key, value in row.items()}) + "\n")
        log.flush()
        if not console.is_terminal:
            console.print(" ".join(f"{key} {value:.4g}" for key, value in row.items()))

    def describe(self) -> dict[str, Any]:
        """For the model card: settings and what has been done."""
        return {
            **asdict(self.settings),
            "step": self.step,
            "hours": self.seconds / 3600,
            "audio_hours": self.data.hours,
        }
