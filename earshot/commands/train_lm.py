"""The command `earshot train-lm`; imports the rest when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earshot.codec.errors import UsageError
from earshot.commands.extras import require_lab
from earshot.commands.progress import LOADING
from earshot.commands.targets import Force, claim_run


def train_lm(
    model: Annotated[
        str, typer.Argument(help="The codec whose codes to learn: default, encodec_24khz, encodec_48khz or a path.")
    ],
    audio: Annotated[
        list[str],
        typer.Argument(help="Folders, files or glob patterns, PATTERN[=WEIGHT]: how often its files come in a pass."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/lm"),
    kbps: Annotated[float, typer.Option(help="The finest rate to learn; codebooks beyond it stay as they are.")] = 6.0,
    exclude: Annotated[
        list[str] | None, typer.Option(help="File names (patterns) to leave out and judge by; repeat it.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps in all; the learning rate falls to zero over them.")] = 3000,
    passes: Annotated[
        int, typer.Option(min=1, help="Times that all audio is coded, each time a little other in speed and volume.")
    ] = 8,
    batch: Annotated[int, typer.Option(min=1, help="Crops of 4 s in a step.")] = 12,
    seed: Annotated[int, typer.Option(help="Of weights, crops and variations.")] = 0,
    precision: Annotated[str, typer.Option(help="bf16, or fp32 where bf16 is slow.")] = "bf16",
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so long; the same command goes on.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 takes all cores.")] = 0,
    force: Force = False,
) -> None:
    """Train the language model of a codec, for --lm. Ctrl-C saves; the same command goes on.

    \b
    earshot train-lm default voices/
    earshot train-lm runs/mine voices/ others=2 --out runs/mine-lm
    earshot encode talk.wav talk.ecdc --model runs/mine --lm-model runs/mine-lm

    It learns from the codes of the audio. The number it shows is bits for each
    code, of 10, at each rate of the codec. OUT holds lm.safetensors,
    checkpoint.pt, log.jsonl, bits.png and the codes of each pass.
    """
    require_lab()
    from earshot.codec.weights.shape import check_rate
    from earshot.lab.training.sources import Source

    check_rate(model, kbps)
    claim_run(out, ["lm.safetensors", "log.jsonl", "bits.png"], force)
    sources = [Source.parse(text) for text in audio]
    for source in sources:
        source.files(exclude or ())

    import torch

    from earshot import codec
    from earshot.codec.terminal import Terminal
    from earshot.lab.training.lm_run import LmRun
    from earshot.lab.training.lm_trainer import LmSettings
    from earshot.lab.training.ranks import Ranks

    if precision not in ("bf16", "fp32"):
        raise UsageError(f"there is no precision {precision!r}; choose bf16 or fp32")
    if threads:
        torch.set_num_threads(threads)
    console = Terminal()
    with console.waiting(LOADING):
        loaded = codec.load(model)
    settings = LmSettings(kbps, passes, steps, batch, seed=seed, precision="bf16" if precision == "bf16" else "fp32")
    run = LmRun(loaded, settings, out, Ranks().start(device))
    if run.checkpoint.exists():
        run.resume()
    run.go(console, sources, exclude or (), minutes)
    more = "" if run.trainer.step == steps else "; the same command goes on"
    codec_named = "" if model == "default" else f" --model {model}"
    console.say(f"step {run.trainer.step} of {steps}{more}. Use it with")
    console.say(f"earshot encode talk.wav talk.ecdc{codec_named} --lm-model {out}")
