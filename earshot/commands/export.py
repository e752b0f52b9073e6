"""The command `earshot export`; imports the rest when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from earshot.codec.errors import UsageError
from earshot.codec.terminal import Terminal, description_column
from earshot.commands.progress import LOADING, Lines
from earshot.commands.targets import Force, claim

console = Terminal()


def export(
    recording: Annotated[
        Path, typer.Argument(metavar="RECORDING", help="What `earshot serve --record` wrote (.eshr).")
    ],
    mix: Annotated[Path | None, typer.Option(help="All speakers in one file: .wav or .flac.")] = None,
    per_speaker: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A file for each speaker, all of the same length and beginning."),
    ] = None,
    format_: Annotated[
        Literal["flac", "wav"], typer.Option("--format", help="Of the files of --per-speaker.")
    ] = "flac",
    model: Annotated[
        str, typer.Option(help="The codec that the server had: default, encodec_24khz or a path.")
    ] = "default",
    force: Force = False,
) -> None:
    """Make audio of a recording: a mix, or a file for each speaker.

    \b
    earshot export den-20261124T091500Z.eshr --mix den.flac
    earshot export den-20261124T091500Z.eshr --per-speaker den/ --format wav

    A speaker who was muted, silent or absent becomes silence. Of a recording that
    is damaged, or whose server was killed, all that can be read is exported, and
    the command says what is missing. Formats and limits: docs/recordings.md.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    from earshot import codec
    from earshot.codec.weights.shape import shape_of
    from earshot.recording.description import describe
    from earshot.recording.export import export_recording, speaker_files

    if mix is None and per_speaker is None:
        raise UsageError("say what to make: --mix OUT.flac, --per-speaker FOLDER, or both")
    if mix is not None and mix.suffix.lower() not in (".wav", ".flac"):
        raise UsageError(f"cannot write a mix to {mix}: end its name in .wav or .flac")
    shape_of(model)
    found, targets = describe(recording), [mix] if mix else []
    if per_speaker is not None:
        targets += speaker_files(per_speaker, found, format_).values()
    claim([target for target in targets if target == mix or target.exists()], [recording], force)
    with console.waiting(LOADING):
        loaded = codec.load(model)
    columns = (description_column(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("exporting")
        lines = Lines("exporting")

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if not console.is_terminal:
                lines.show(done, total)

        made = export_recording(
            loaded,
            recording,
            mix,
            per_speaker,
            format_,
            show,
        )
    for line in made.lines():
        console.say(line)
