"""What `earshot train` does."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from earshot.codec.config import ENCODEC_24KHZ, ENCODEC_48KHZ
from earshot.codec.errors import TrainingError, UsageError
from earshot.codec.homes import expanded
from earshot.codec.model.network import Encodec
from earshot.codec.terminal import Terminal
from earshot.codec.weights.load import load_model, save_native
from earshot.lab.training.data import TrainingData
from earshot.lab.training.ranks import Ranks
from earshot.lab.training.run import Run
from earshot.lab.training.settings import TrainSettings, read_recipe
from earshot.lab.training.trainer import Trainer

BRANCH = "branch.json"
"""In the folder of a branch: where it began and over how many steps its learning rate falls."""
SMOKE_MINUTES = 1.0
SMOKE_STEPS = 160
"""A machine that does not make so many in that time takes longer."""
SMOKE_CHANGES = (
    "batch=4",
    "crop_seconds=0.64",
    "discriminator.at_a_time=1",
    "schedule.unquantized=60",
    "schedule.turn=60",
    "schedule.rise=20",
    "schedule.adversarial_from=150",
    "optimiser.average=0.9",
    "checkpoint_minutes=1",
)
"""A short way through all of a recipe: waveform alone, codebooks, spectrum, discriminator."""


def train(
    console: Terminal,
    recipe: str,
    sources: Sequence[str],
    out: Path,
    exclude: Sequence[str] = (),
    changes: Sequence[str] = (),
    init: str | None = None,
    minutes: float | None = None,
    device: str = "auto",
    branch: Path | None = None,
    steps: int = 0,
) -> Run:
    """Begins a run in `out` or goes on with the one that is there. With `branch`, the folder of
    another run, it goes on from where that one stands now, for so many `steps`, over which the
    learning rate falls to zero.

    Raises UsageError for what cannot be trained."""
    data = {"sources": list(sources)} if sources else {}
    if exclude:
        data["exclude"] = list(exclude)
    settings = read_recipe(recipe, changes, data)
    init = init or settings.init
    if init is not None:
        settings = without_warm_up(settings)
    ranks = Ranks()
    chosen = ranks.start(device)
    try:
        if branch is not None:
            if ranks.first:
                _branch_off(branch, out, steps)
            ranks.wait()
            settings = _falling(settings, out)
        run = _begin(console, settings, out, init, chosen, ranks)
        run.go(console, minutes)
    finally:
        ranks.stop()
    if ranks.first:
        step, steps = run.trainer.step, settings.schedule.steps
        more = "" if step == steps else "; the same command goes on"
        console.say(f"step {step} of {steps}{more}. Listen to {out / 'samples'}, judge by other clips with")
        console.say(f"earshot evaluate CLIPS --model {out} --out {out / 'judged'}")
    return run


def _branch_off(trunk: Path, out: Path, steps: int) -> None:
    """Copies the trunk's checkpoint and notes where the branch begins, unless the branch has begun
    already."""
    note, checkpoint = out / BRANCH, out / "checkpoint.pt"
    if note.exists():
        return
    if checkpoint.exists():
        raise UsageError(f"{out} holds another run: choose another --out folder for the branch")
    if steps < 1:
        raise UsageError("--branch: say with --steps over how many steps the learning rate falls to zero")
    try:
        state = torch.load(trunk / "checkpoint.pt", weights_only=True)
        begun = int(state["step"])
    except Exception as error:  # torch.load has no list of what a damaged file makes it raise
        raise UsageError(f"--branch: {trunk} holds no run to go on from ({error})") from error
    out.mkdir(parents=True, exist_ok=True)
    torch.save(state, checkpoint)
    note.write_text(json.dumps({"trunk": str(trunk), "begun": begun, "steps": steps}), "utf-8")


def _falling(settings: TrainSettings, out: Path) -> TrainSettings:
    """The schedule of the branch in `out`."""
    try:
        note = json.loads((out / BRANCH).read_text("utf-8"))
        begun, steps = int(note["begun"]), int(note["steps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{out / BRANCH} cannot be read ({error}); choose another --out folder") from error
    schedule = settings.schedule.model_copy(update={"steps": begun + steps, "decay": steps})
    return settings.model_copy(update={"schedule": schedule})


def export(run: Path, file: Path, postfilter: tuple[float, float] | None = None) -> None:
    """The model of a run, its running mean, as what ships: one float16 file, with another
    postfilter if one is given. Raises UsageError for another suffix, ModelError for exponents that
    there are not."""
    if file.suffix != ".safetensors":
        raise UsageError(f"{file}: the name of a model's file ends in .safetensors")
    network = load_model(str(run)).network
    if postfilter is not None:
        filtered = Encodec(replace(network.config, postfilter=postfilter))
        filtered.load_state_dict(network.state_dict())
        network = filtered
    save_native(network, file, torch.float16)


def without_warm_up(settings: TrainSettings) -> TrainSettings:
    """For weights that are trained already: a start on the waveform almost alone would take from
    them what they know of the spectrum."""
    schedule = settings.schedule.model_copy(update={"unquantized": 0, "turn": 0})
    return settings.model_copy(update={"schedule": schedule})


def _begin(
    console: Terminal, settings: TrainSettings, out: Path, init: str | None, device: torch.device, ranks: Ranks
) -> Run:
    model = settings.model
    data = TrainingData(settings.data, model.sample_rate, model.channels, settings.crop, progress=ranks.first)
    trained: Encodec | None = None
    if init is not None and not (out / "checkpoint.pt").exists():
        trained = load_model(init).network
    run = Run(Trainer(settings, data, trained, device, ranks), out)
    known = _checkpoint_of(init)
    if run.checkpoint.exists():
        run.resume()
    elif known is not None and run.take_critic(known) and ranks.first:
        console.say(f"with the discriminator of {init}")
    if ranks.first:
        places = f"{ranks.count} processes on {device.type}" if ranks.count > 1 else str(device)
        if settings.precision == "bf16" and not run.trainer.half:
            places += ", in float32 since it does not multiply bfloat16"
        at = f"going on from step {run.trainer.step} of" if run.trainer.step else "for"
        console.say(f"{data.hours:.2f} hours of audio, {at} {settings.schedule.steps} steps, on {places}, in {out}")
    return run


def _checkpoint_of(init: str | None) -> Path | None:
    """That of the run which `init` names, if it is one."""
    if init is None or init in ("default", ENCODEC_24KHZ.name, ENCODEC_48KHZ.name):
        return None
    checkpoint = expanded(init) / "checkpoint.pt"
    return checkpoint if checkpoint.is_file() else None


def smoke(console: Terminal, recipe: str, clips: Path, changes: Sequence[str] = (), device: str = "auto") -> None:
    """Trains for a minute, and for SMOKE_STEPS at least, from `clips` in a folder that is thrown
    away, with every part of the recipe in its turn.

    Raises TrainingError unless the spectral loss of what is heard through the codebooks has
    fallen."""
    with tempfile.TemporaryDirectory() as folder:
        settings = read_recipe(recipe, [*SMOKE_CHANGES, *changes], {"sources": [str(clips)]})
        ranks = Ranks()
        chosen = ranks.start(device)
        try:
            run = _begin(console, settings, Path(folder), None, chosen, ranks)
            before = spectral_loss(run.trainer)
            run.go(console, SMOKE_MINUTES, SMOKE_STEPS)
            after = spectral_loss(run.trainer)
        finally:
            ranks.stop()
        steps = run.trainer.step
    if not run.trainer.quantizes:
        first = settings.schedule.unquantized + 1
        raise TrainingError(f"{steps} steps were too few to tell: codebooks come with step {first} of this recipe")
    console.say(f"spectral loss {before:.2f} before, {after:.2f} after {steps} steps")
    if not after < before:
        raise TrainingError(f"the spectral loss did not fall in {steps} steps: {before:.3f} before, {after:.3f} after")


@torch.no_grad()
def spectral_loss(trainer: Trainer) -> float:
    """Of examples that are not trained with, coded with all codebooks."""
    spoken = torch.from_numpy(trainer.data.batch(trainer.settings.batch, trainer.settings.seed + 1, 0))
    network: Any = trainer.exported()
    heard = network.decode(network.encode(spoken, trainer.settings.model.n_codebooks))
    heard = heard[..., : spoken.shape[-1]]
    return float(trainer.mel(heard.to(trainer.device), spoken.to(trainer.device)))
