"""A run that trains a language model in a folder: codes, steps, checkpoints, and what one wants to
see meanwhile."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from earshot.codec.errors import TrainingError, UsageError, WeightsError
from earshot.codec.model.model import Model
from earshot.codec.terminal import Terminal, description_column
from earshot.codec.weights.lm import save_integer_lm
from earshot.lab.training.interrupt import Interrupt
from earshot.lab.training.lm_data import Codes, Crops, excluded, one_pass
from earshot.lab.training.lm_export import to_integers
from earshot.lab.training.lm_trainer import LmSettings, LmTrainer, bits_of
from earshot.lab.training.pictures import draw_losses
from earshot.lab.training.sources import Source

REPORT_STEPS, CHECKPOINT_MINUTES, SMOOTHING = 100, 2.0, 0.02
"""SMOOTHING is what a step weighs in the bits that are shown."""


class LmRun:
    """`checkpoint.pt` (resumable), `lm.safetensors` (usable, for --lm-model), `log.jsonl`,
    `bits.png`, and the codes of each pass, which are not made twice."""

    def __init__(self, model: Model, settings: LmSettings, folder: Path, device: torch.device) -> None:
        self.model, self.settings, self.folder = model, settings, folder
        self.trainer = LmTrainer(model, settings, device)
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def resume(self) -> None:
        """Goes on from `checkpoint.pt`. Raises WeightsError if it is damaged, UsageError if it is
        of another codec or other settings; only the number of steps may differ."""
        try:
            state = torch.load(self.checkpoint, map_location=self.trainer.device, weights_only=True)
            before = LmSettings(**state["settings"])
            same = state["codec"] == self.model.digest and asdict(before) | {"steps": 0} == asdict(self.settings) | {
                "steps": 0
            }
            if same:
                self.trainer.load(state)
        except Exception as error:  # torch.load has no list of what a damaged file makes it raise
            raise WeightsError(f"{self.checkpoint} cannot be read ({error}); delete it to start again") from error
        if not same:
            raise UsageError(
                f"{self.checkpoint} is of another codec or has other settings; choose another --out folder"
            )

    def codes(self, console: Terminal, sources: Sequence[Source], exclude: Sequence[str]) -> list[Codes]:
        """Of all passes, made now or by an earlier run in this folder. Raises UsageError if nothing
        can be read."""
        found: list[Codes] = []
        for number in range(self.settings.passes):
            path = self.folder / f"codes-{number}.npz"
            if not path.exists():
                with _bar(console) as bar:
                    task = bar.add_task(f"codes of pass {number + 1} of {self.settings.passes}", said="")
                    made = one_pass(
                        self.model, sources, exclude, self.settings.kbps, number, self.settings.seed,
                        lambda done, total: bar.update(task, completed=done, total=total),  # noqa: B023
                    )  # fmt: skip
                partial = path.with_suffix(".part")
                with partial.open("wb") as file:
                    np.savez(file, codes=np.concatenate(made, axis=1), lengths=[one.shape[1] for one in made])
                os.replace(partial, path)
            with np.load(path) as saved:
                ends = np.cumsum(saved["lengths"])[:-1]
                found += np.split(saved["codes"], ends, axis=1)
        return found

    def save(self) -> None:
        """Writes checkpoint and model as they are now; a crash while writing leaves the old ones.

        Raises TrainingError or OSError if the disk does not take them."""
        partial = self.checkpoint.with_suffix(".part")
        try:
            torch.save(self.trainer.state() | {"codec": self.model.digest}, partial)
        except RuntimeError as error:  # what torch's zip writer makes of a full disk
            partial.unlink(missing_ok=True)
            raise TrainingError(f"{partial} cannot be written; is the disk full? ({error})") from error
        os.replace(partial, self.checkpoint)
        save_integer_lm(to_integers(self.trainer.exported()), self.model.digest, self.folder / "lm.safetensors")
        draw_losses(self.folder / "log.jsonl", self.folder / "bits.png", self._names())

    def go(
        self, console: Terminal, sources: Sequence[Source], exclude: Sequence[str] = (), minutes: float | None = None
    ) -> None:
        """Trains to the last step, or for so many minutes. Ctrl-C and SIGTERM end the step, save
        and leave."""
        settings, trainer = self.settings, self.trainer
        with Interrupt() as interrupt:
            codes = self.codes(console, sources, exclude)
            judged = excluded(self.model, sources, exclude, settings.kbps)
            crops = Crops(codes, self._frames(), settings.batch, settings.seed)
            hours = sum(one.shape[1] for one in codes) / self.model.frame_rate / 3600
            console.say(
                f"{hours:.2f} hours in {settings.passes} passes, at step {trainer.step} of {settings.steps}, in "
                f"{self.folder}"
            )
            self._forget_later_rows()
            mean: dict[str, float] = {}
            began = saved = time.monotonic()
            with _bar(console) as bar:
                task = bar.add_task("training", total=settings.steps, completed=trainer.step, said="")
                while trainer.step < settings.steps and interrupt.asked is None:
                    if minutes is not None and time.monotonic() - began > 60 * minutes:
                        break
                    for name, bits in zip(
                        self._names(), self._rates(trainer.advance(crops.batch(trainer.step))), strict=False
                    ):
                        mean[name] = (1 - SMOOTHING) * mean.get(name, bits) + SMOOTHING * bits
                    said = "bits a code: " + " ".join(f"{value:.2f}" for value in mean.values())
                    bar.update(task, completed=trainer.step, said=said)
                    if trainer.step % REPORT_STEPS == 0:
                        self._report(console, mean, judged)
                    if time.monotonic() - saved > 60 * CHECKPOINT_MINUTES:
                        self.save()
                        saved = time.monotonic()
            self.save()
        interrupt.obey()

    def _frames(self) -> int:
        """Of a crop: a window, where there are windows."""
        config = self.model.config
        if config.window_length is not None:
            return -(-config.window_length // config.hop_length)
        return max(1, round(self.settings.seconds * config.frame_rate))

    def _rates(self, bits: Sequence[float]) -> list[float]:
        """Bits of each codebook -> mean up to and with each group."""
        return [float(np.mean(bits[:end])) for end in self.trainer.network.shape.groups]

    def _names(self) -> tuple[str, ...]:
        each = self.model.config.kbps_per_codebook
        rates = [f"{end * each:g} kbps" for end in self.trainer.network.shape.groups]
        return (*rates, *(f"{rate}, judged" for rate in rates))

    def _report(self, console: Terminal, mean: dict[str, float], judged: list[Codes]) -> None:
        row: dict[str, Any] = {"step": self.trainer.step, "lr": self.trainer.rate(), **mean}
        if judged:
            bits = bits_of(self.trainer.exported(), judged)
            row |= dict(zip(self._names()[len(mean) :], self._rates(bits.tolist()), strict=True))
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({key: float(f"{value:.5g}") for key, value in row.items()}) + "\n")
        if not console.is_terminal:
            console.say(", ".join(f"{key} {value:.4g}" for key, value in row.items()))

    def _forget_later_rows(self) -> None:
        """Takes away what the log says of steps after the checkpoint, which come again."""
        log = self.folder / "log.jsonl"
        if log.exists():
            rows = [line for line in log.read_text("utf-8").splitlines() if line.endswith("}")]
            kept = [line for line in rows if json.loads(line)["step"] <= self.trainer.step]
            log.write_text("".join(line + "\n" for line in kept), "utf-8")


def _bar(console: Terminal) -> Progress:
    return Progress(
        description_column(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(), TextColumn("{task.fields[said]}"), console=console,
    )  # fmt: skip
