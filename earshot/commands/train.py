"""The command `earshot train`; imports the rest when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earshot.codec.errors import UsageError
from earshot.codec.targets import check_name
from earshot.commands.extras import require_lab
from earshot.commands.targets import Force, claim, claim_run


def train(
    recipe: Annotated[
        str,
        typer.Argument(help="lite, steep, voice, finetune, encodec_24khz, encodec_48khz, or a TOML file."),
    ],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders, files or glob patterns, [KIND:]PATTERN[=WEIGHT]; kinds: speech, music, noise, other."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run, runs/RECIPE if none is named.")] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: default, encodec_24khz, encodec_48khz or a path. Without: those of default"
            " for finetune, random ones for the others."
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="File names (patterns) to leave out, to judge by later; repeat it.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe: table.key=value, as schedule.steps=1000; repeat it."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so long; the same command goes on.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 takes all cores.")] = 0,
    branch: Annotated[
        Path | None,
        typer.Option(help="Folder of a run to go on from, in OUT, with a learning rate that falls to zero."),
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="Of the branch.")] = 0,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A minute on Earshot's own clips, thrown away: does it learn here?")
    ] = False,
    force: Force = False,
) -> None:
    """Train a codec from folders of audio. Ctrl-C saves; the same command goes on.

    \b
    earshot train lite --smoke                          try it: a minute
    earshot train lite voices music:songs noise:street  as the default model
    earshot train finetune me/                          five minutes of you
    earshot train voice voices --branch runs/voice --steps 3000 --out runs/b
    torchrun --nproc-per-node 8 -m earshot train encodec_24khz audio/

    OUT holds model.safetensors (for --model), checkpoint.pt, log.jsonl,
    losses.png and samples/, written anew every few minutes.
    """
    require_lab()
    from earshot.codec.weights.shape import shape_of
    from earshot.lab.training.settings import read_recipe
    from earshot.lab.training.sources import Source

    read_recipe(recipe, set_ or (), {"sources": list(data)} if data else {})
    folder = out or Path("runs") / Path(recipe).stem
    if not smoke:
        claim_run(folder, ["model.safetensors", "log.jsonl", "losses.png"], force)
        for text in data or ():
            Source.parse(text).files(exclude or ())
        if init is not None:
            shape_of(init)

    import torch

    from earshot.codec.terminal import Terminal
    from earshot.lab import VOICES
    from earshot.lab.training.command import smoke as try_out
    from earshot.lab.training.command import train as run_training

    console = Terminal()
    if threads:
        torch.set_num_threads(threads)
    if smoke:
        if data or out or init or minutes:
            raise UsageError(
                "--smoke trains from Earshot's own clips for a minute and keeps nothing: it takes no data,"
                " --out, --init or --minutes"
            )
        try_out(console, recipe, VOICES, set_ or (), device)
        return
    run_training(console, recipe, data or (), folder, exclude or (), set_ or (), init, minutes, device, branch, steps)


def export_model(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    file: Annotated[Path, typer.Argument(help="File to write (.safetensors).")],
    postfilter: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="FINE COARSE", help="Exponents of its postfilter; those of the run if none."),
    ] = None,
    force: Force = False,
) -> None:
    """Write the model of a training run as one float16 .safetensors file.

    The file is half as large as the run's own, as Earshot's default model is.

    \b
    earshot export-model runs/b default.safetensors
    earshot export-model runs/b sharper.safetensors --postfilter 0.5 0.2
    """
    require_lab()
    check_name(file, "weights", [".safetensors"])
    claim([file], [run, run / "model.safetensors", run / "checkpoint.pt"], force)

    from earshot.lab.training.command import export

    export(run, file, postfilter)
