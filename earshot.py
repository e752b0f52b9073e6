"""The `earshot` command line: the one place that wires codec, server and client together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from codec.errors import EarshotError, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Voice chat at 1.5 to 12 kbps with a streaming EnCodec."
)
console = Console()


@app.callback()
def _root() -> None:
    """Keeps `earshot train` a subcommand while it is the only one."""


@app.command()
def train(
    data: Annotated[
        list[str], typer.Argument(help="Folders, files or glob patterns of audio, each with =WEIGHT if wanted.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; a run that is already there is continued.")] = Path(
        "runs/lite"
    ),
    steps: Annotated[int, typer.Option(help="Steps in all, those done before included.")] = 20_000,
    decay_steps: Annotated[int, typer.Option(help="Last steps, over which the learning rate falls to zero.")] = 6_000,
    exclude: Annotated[
        list[str] | None, typer.Option(help="File names (patterns) to leave out, to judge by later.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all cores.")] = 0,
    seed: Annotated[int, typer.Option(help="Same seed, same data and threads: same weights.")] = 1,
) -> None:
    """Train a codec from folders of audio. Ctrl-C saves; the same command goes on."""
    import torch

    from codec.training.data import CropSource, Source
    from codec.training.trainer import Trainer, TrainSettings

    if threads:
        torch.set_num_threads(threads)
    settings = TrainSettings(steps=steps, decay_steps=decay_steps, seed=seed)
    crop = settings.crop_frames * settings.model.hop_length
    crops = CropSource([Source.parse(text) for text in data], settings.model.sample_rate, crop, exclude or ())
    console.print(f"{crops.hours:.2f} hours of audio")
    trainer = Trainer(settings, crops, out)
    if trainer.checkpoint.exists():
        trainer.resume()
        console.print(f"going on from step {trainer.step}")
    trainer.run(console)


@app.command()
def evaluate(
    clips: Annotated[list[str], typer.Argument(help="Folders, files or glob patterns of speech to judge by.")],
    model: Annotated[str, typer.Option(help="default, encodec_24khz or a path.")] = "default",
    kbps: Annotated[list[float] | None, typer.Option(help="Rates; all of the model's if none is given.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every score to this file.")] = None,
) -> None:
    """Measure decoded speech against the original: STOI, wide-band PESQ and SI-SNR, always streamed."""
    import json

    from rich.progress import track
    from rich.table import Table

    import codec
    from codec.training.data import Source
    from codec.training.evaluate import evaluate as score_clips

    loaded = codec.load(model)
    rates = kbps or list(loaded.bandwidths)
    files = [file for text in clips for file in Source(text).files()]
    if not files:
        raise UsageError(f"no audio under {', '.join(clips)}")
    scores = [score for file in track(files, "judging", transient=True) for score in score_clips(loaded, [file], rates)]
    table = Table("kbps", "STOI", "PESQ-WB", "SI-SNR dB", title=f"{loaded.name} {loaded.digest}, {len(files)} clips")
    for rate in rates:
        rows = [score for score in scores if score.kbps == rate]
        means = [sum(column) / len(rows) for column in zip(*((s.stoi, s.pesq, s.si_snr) for s in rows), strict=True)]
        table.add_row(f"{rate:g}", f"{means[0]:.3f}", f"{means[1]:.2f}", f"{means[2]:.1f}")
    console.print(table)
    if json_file:
        json_file.write_text(json.dumps([score.to_dict() for score in scores], indent=1))


_KBPS = Annotated[float, typer.Option(help="Codec rate of the speech.")]
_MODEL = Annotated[str, typer.Option(help="default, encodec_24khz or a path.")]


def _file_progress(verb: str) -> Progress:
    """A bar for work on a file, counted in samples."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn(verb),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


@app.command()
def encode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Any audio file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File of codes to write (docs/files.md).")],
    kbps: _KBPS = 6.0,
    model: _MODEL = "default",
) -> None:
    """Encode an audio file into a file of codes."""
    import codec
    from codec.files import encode_file

    loaded = codec.load(model)
    with _file_progress("encoding") as bar:
        task = bar.add_task("")
        header = encode_file(
            loaded, source, target, kbps, lambda done, total: bar.update(task, completed=done, total=total)
        )
    sizes = f"{target.stat().st_size} bytes from {source.stat().st_size}"
    console.print(f"{target}: {header.seconds:.1f} s at {kbps:g} kbps, {sizes}")


@app.command()
def decode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file that `earshot encode` wrote.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Audio file to write: .wav, .flac or .ogg.")],
    model: _MODEL = "default",
) -> None:
    """Decode a file of codes into an audio file."""
    import codec
    from codec.files import decode_file

    loaded = codec.load(model)
    with _file_progress("decoding") as bar:
        task = bar.add_task("")
        header = decode_file(loaded, source, target, lambda done, total: bar.update(task, completed=done, total=total))
    console.print(f"{target}: {header.seconds:.1f} s, from {header.kbps:g} kbps by {header.model}")


def main() -> None:
    """Runs the command line; errors that Earshot raises on purpose become one line and exit status 1."""
    try:
        app()
    except EarshotError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}")
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
