"""A training run in a folder: steps, progress, checkpoints, and what one wants to hear and see
meanwhile."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from earshot.codec.config import ModelConfig
from earshot.codec.errors import TrainingError, UsageError, WeightsError
from earshot.codec.terminal import Terminal, description_column
from earshot.codec.weights.load import save_native
from earshot.lab.training.interrupt import Interrupt
from earshot.lab.training.pictures import draw_losses
from earshot.lab.training.samples import Samples
from earshot.lab.training.trainer import Trainer

REPORT_STEPS = 100
SMOOTHING = 0.02
"""What a step's losses weigh in those that are shown."""

MOST_REFUSED = 50
"""Steps one after the other that are not learned from, because something in them is not finite,
before a run ends."""


class Run:
    """One run in one folder: `checkpoint.pt` (resumable), `model.safetensors` (usable),
    `log.jsonl`, `losses.png`, `samples/`. With several processes the first one writes; all must
    call the same methods."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.trainer, self.folder = trainer, folder
        folder.mkdir(parents=True, exist_ok=True)
        self._mean: dict[str, float] = {}
        self._refused = 0
        """Steps since this process began that were not learned from."""

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        """Writes the checkpoint and the model as it is now; a crash while writing leaves the old
        ones.

        Raises TrainingError or OSError if the disk does not take them."""
        self._write()
        self.trainer.ranks.wait()

    def _write(self) -> None:
        if not self.trainer.ranks.first:
            return
        partial = self.checkpoint.with_suffix(".part")
        try:
            torch.save(self.trainer.state(), partial)
        except RuntimeError as error:  # what torch's zip writer makes of a full disk
            partial.unlink(missing_ok=True)
            raise TrainingError(f"{partial} cannot be written; is the disk full? ({error})") from error
        os.replace(partial, self.checkpoint)
        save_native(self.trainer.exported(), self.folder / "model.safetensors")

    def resume(self) -> None:
        """Goes on from `checkpoint.pt`. Raises WeightsError if it is damaged, UsageError if of
        another model or discriminator."""
        state = self._read(self.checkpoint, "delete it to start again")
        if replace(state["config"], postfilter=None) != replace(self.trainer.settings.model, postfilter=None):
            raise UsageError(f"{self.checkpoint} is of another model; choose another --out folder")
        if not self._same_critic(state):
            raise UsageError(
                f"{self.checkpoint} has a discriminator of another shape than the recipe's: set discriminator.filters"
                " and discriminator.windows as they were, or choose another --out folder"
            )
        try:
            self.trainer.load(state)
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise WeightsError(f"{self.checkpoint} is incomplete ({error}); delete it to start again") from error

    def take_critic(self, checkpoint: Path) -> bool:
        """Begins with the discriminator of another run instead of one that knows nothing. Returns
        False, and takes nothing, if it has another shape. Raises WeightsError if it is damaged."""
        state = self._read(checkpoint, "choose another model with --init")
        if not self._same_critic(state):
            return False
        try:
            self.trainer.load_critic(state)
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise WeightsError(f"{checkpoint} is incomplete ({error}); choose another model with --init") from error
        return True

    def _read(self, checkpoint: Path, advice: str) -> dict[str, Any]:
        """What `Trainer.state` gave, its config parsed."""
        try:
            state: dict[str, Any] = torch.load(checkpoint, map_location=self.trainer.device, weights_only=True)
            _shapes(state["discriminator"])
            return state | {"config": ModelConfig.from_dict(state["config"])}
        except Exception as error:  # torch.load has no list of what a damaged file makes it raise
            raise WeightsError(f"{checkpoint} cannot be read ({error}); {advice}") from error

    def _same_critic(self, state: dict[str, Any]) -> bool:
        return _shapes(state["discriminator"]) == _shapes(self.trainer.discriminator.state_dict())

    def go(self, console: Terminal, minutes: float | None = None, at_least: int = 0) -> None:
        """Trains to the last step, or for so many minutes and up to step `at_least`. Ctrl-C and
        SIGTERM end the step, save and leave; a second one leaves at once.

        Raises TrainingError if nothing has been learned for MOST_REFUSED steps, and what the data
        raise."""
        trainer, settings = self.trainer, self.trainer.settings
        first = trainer.ranks.first
        columns = (
            description_column(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[losses]}"),
        )  # fmt: skip
        samples = Samples(trainer.data, self.folder / "samples") if first else None
        if first:
            self._forget_later_rows()
            if minutes:
                console.say(f"this stops after {minutes:g} min; what is shown as left is of all steps")
        self._mean, self._refused, refused = {}, 0, 0
        began = saved = time.monotonic()
        with ExitStack() as stack:
            interrupt = stack.enter_context(Interrupt())
            progress = stack.enter_context(Progress(*columns, console=console, disable=not first))
            batches = stack.enter_context(
                trainer.data.batches(
                    settings.batch, settings.seed, trainer.step, trainer.ranks.rank, settings.data_workers
                )
            )
            task = progress.add_task("training", total=settings.schedule.steps, completed=trainer.step, losses="")
            while trainer.step < settings.schedule.steps:
                started = time.monotonic()
                try:
                    batch = torch.from_numpy(next(batches))
                except Exception:
                    self._write()  # without the other processes, which wait for a step of this one
                    raise
                refused = 0 if self._learn(batch) else refused + 1
                now = time.monotonic()
                trainer.seconds += now - started
                shown = " ".join(f"{name} {self._mean[name]:.3f}" for name in self._mean if name in _SHOWN)
                progress.update(task, completed=trainer.step, losses=shown)
                if trainer.step % REPORT_STEPS == 0 and first:
                    self._report(console)
                if refused >= MOST_REFUSED:  # what was saved before is better than what is there now
                    raise TrainingError(
                        f"{refused} steps up to step {trainer.step} had losses or gradients that are not finite:"
                        " nothing is learned any more; try a lower learning rate, or precision=fp32"
                    )
                # The clocks of several processes differ, the first one's counts; any one may be
                # told to stop.
                save, stop = self._any(
                    first and now - saved > 60 * settings.checkpoint_minutes,
                    interrupt.asked is not None or (first and trainer.step >= at_least and _over(now - began, minutes)),
                )
                if stop:
                    break
                if save:
                    self._keep(samples)
                    saved = time.monotonic()
            self._keep(samples, ended=True)
        interrupt.obey()

    def _learn(self, batch: torch.Tensor) -> bool:
        """One step; whether it was learned from. What is not finite does not spoil the means that
        are shown."""
        values = self.trainer.advance(batch)
        for name, value in values.items():
            if math.isfinite(value):
                mean = self._mean.get(name, value)
                self._mean[name] = (1 - SMOOTHING) * mean + SMOOTHING * value
        learned = math.isfinite(values["norm"])
        self._refused += not learned
        return learned

    def _any(self, *options: bool) -> list[bool]:
        """Of each wish, whether any of the processes has it."""
        ranks = self.trainer.ranks
        if ranks.count == 1:
            return list(options)
        return (ranks.sum(torch.tensor(options, dtype=torch.int32, device=self.trainer.device)) > 0).tolist()

    def _forget_later_rows(self) -> None:
        """Takes away what the log says of steps after the checkpoint, which come again, and a line
        that was cut."""
        log = self.folder / "log.jsonl"
        if log.exists():
            kept = "".join(line + "\n" for line in log.read_text("utf-8").splitlines() if self._is_past(line))
            partial = log.with_suffix(".part")
            partial.write_text(kept, "utf-8")
            os.replace(partial, log)

    def _is_past(self, line: str) -> bool:
        try:
            return bool(json.loads(line)["step"] <= self.trainer.step)
        except (ValueError, KeyError, TypeError):
            return False

    def _keep(self, samples: Samples | None, ended: bool = False) -> None:
        self.save()
        if samples is not None:
            draw_losses(self.folder / "log.jsonl", self.folder / "losses.png")
            samples.write(self.trainer.exported(), self.trainer.step, always=ended)

    def _report(self, console: Terminal) -> None:
        trainer = self.trainer
        rate = trainer.settings.optimiser.learning_rate * trainer.decayed()
        row: dict[str, Any] = {"step": trainer.step, "seconds": round(trainer.seconds), "lr": rate, **self._mean}
        if self._refused:
            row["refused"] = self._refused
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({key: float(f"{value:.5g}") for key, value in row.items()}) + "\n")
        if not console.is_terminal:
            left = timedelta(
                seconds=round(trainer.seconds / trainer.step * (trainer.settings.schedule.steps - trainer.step))
            )
            losses = " ".join(f"{key} {value:.4g}" for key, value in row.items() if key not in ("step", "seconds"))
            so_far = f"step {trainer.step} of {trainer.settings.schedule.steps}, {timedelta(seconds=row['seconds'])}"
            console.say(f"{so_far}, left {left}: {losses}")


_SHOWN = ("waveform", "mel", "adversarial", "features", "critic")


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in state.items()}


def _over(passed: float, minutes: float | None) -> bool:
    return minutes is not None and passed > 60 * minutes
