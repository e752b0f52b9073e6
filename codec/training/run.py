"""A training run in a folder: steps, progress, checkpoints, and what one wants to hear and see meanwhile."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from codec.config import ModelConfig
from codec.errors import UsageError, WeightsError
from codec.training.pictures import draw_losses
from codec.training.samples import Samples
from codec.training.trainer import Trainer
from codec.weights import save_native

REPORT_STEPS = 100
SMOOTHING = 0.02
"""What a step's losses weigh in those that are shown."""


class Run:
    """One run in one folder: `checkpoint.pt` (resumable), `model.safetensors` (usable), `log.jsonl`, `losses.png`,
    `samples/`. With several processes the first one writes; all must call the same methods."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.trainer, self.folder = trainer, folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        """Writes the checkpoint and the model as it is now; a crash while writing leaves the old ones."""
        if self.trainer.ranks.first:
            partial = self.checkpoint.with_suffix(".part")
            torch.save(self.trainer.state(), partial)
            os.replace(partial, self.checkpoint)
            save_native(self.trainer.exported(), self.folder / "model.safetensors")
        self.trainer.ranks.wait()

    def resume(self) -> None:
        """Goes on from `checkpoint.pt`. Raises WeightsError if it is damaged, UsageError if of another model."""
        try:
            state = torch.load(self.checkpoint, map_location=self.trainer.device, weights_only=True)
            saved = ModelConfig.from_dict(state["config"])
        except Exception as error:  # torch.load has no list of what a damaged file makes it raise
            raise WeightsError(f"{self.checkpoint} cannot be read ({error}); delete it to start again") from error
        if saved != self.trainer.settings.model:
            raise UsageError(f"{self.checkpoint} is of another model; choose another --out folder")
        try:
            self.trainer.load(state)
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise WeightsError(f"{self.checkpoint} is incomplete ({error}); delete it to start again") from error

    def go(self, console: Console, minutes: float | None = None) -> None:
        """Trains to the last step, or for so many minutes. Ctrl-C saves and leaves."""
        trainer, settings = self.trainer, self.trainer.settings
        first = trainer.ranks.first
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[losses]}"),
        )  # fmt: skip
        samples = Samples(trainer.data, self.folder / "samples") if first else None
        mean: dict[str, float] = {}
        began = saved = time.monotonic()
        with ExitStack() as stack:
            progress = stack.enter_context(Progress(*columns, console=console, disable=not first))
            batches = stack.enter_context(
                trainer.data.batches(
                    settings.batch, settings.seed, trainer.step, trainer.ranks.rank, settings.data_workers
                )
            )
            stack.callback(self._keep, samples, ended=True)
            task = progress.add_task("training", total=settings.schedule.steps, completed=trainer.step, losses="")
            while trainer.step < settings.schedule.steps:
                started = time.monotonic()
                for name, value in trainer.advance(torch.from_numpy(next(batches))).items():
                    mean[name] = value if name not in mean else (1 - SMOOTHING) * mean[name] + SMOOTHING * value
                now = time.monotonic()
                trainer.seconds += now - started
                shown = " ".join(f"{name} {mean[name]:.3f}" for name in mean if name in _SHOWN)
                progress.update(task, completed=trainer.step, losses=shown)
                if trainer.step % REPORT_STEPS == 0 and first:
                    self._report(mean, console)
                # The clocks of several processes differ; the first one's counts.
                due = torch.tensor([now - saved > 60 * settings.checkpoint_minutes, _over(now - began, minutes)])
                if trainer.ranks.count > 1:
                    due = due.to(trainer.device, torch.uint8)
                    trainer.ranks.same([due])
                save, stop = due.tolist()
                if stop:
                    break
                if save:
                    self._keep(samples)
                    saved = time.monotonic()

    def _keep(self, samples: Samples | None, ended: bool = False) -> None:
        self.save()
        if samples is not None:
            draw_losses(self.folder / "log.jsonl", self.folder / "losses.png")
            samples.write(self.trainer.exported(), self.trainer.step, always=ended)

    def _report(self, mean: dict[str, float], console: Console) -> None:
        trainer = self.trainer
        rate = trainer.settings.optimiser.learning_rate * trainer.decayed()
        row: dict[str, Any] = {"step": trainer.step, "seconds": round(trainer.seconds), "lr": rate, **mean}
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps({key: float(f"{value:.5g}") for key, value in row.items()}) + "\n")
        if not console.is_terminal:
            console.print(" ".join(f"{key} {value:.4g}" for key, value in row.items()), soft_wrap=True)


_SHOWN = ("waveform", "mel", "adversarial", "features", "critic")


def _over(passed: float, minutes: float | None) -> bool:
    return minutes is not None and passed > 60 * minutes
