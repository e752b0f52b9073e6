"""What concealment gains, by PESQ, STOI and PLCMOS, on clips of which some frames never come.

python -m earshot.lab.concealment CLIPS...
python -m earshot.lab.concealment clips/ --clips 10 --share 0.05 --draws 5"""

from __future__ import annotations

from typing import Annotated

import typer

from earshot import codec
from earshot.codec.errors import UsageError
from earshot.codec.terminal import Terminal
from earshot.lab.concealment.run import MEASURES, Gaps, Result, compare
from earshot.lab.confidence import Mean
from earshot.lab.evaluation.clips import find_clips
from earshot.lab.start import start


def table(result: Result) -> str:
    """Returns the means as a table in Markdown."""

    def row(name: str, means: list[Mean], interval: bool = False) -> str:
        cells = [f"{mean.mean:.3f}" + (f" ± {mean.half_width or 0:.3f}" if interval else "") for mean in means]
        return f"| {' | '.join([name, *cells])} |"

    head = f"| what is heard in the gaps | {' | '.join(MEASURES)} |\n| --- |{' --- |' * len(MEASURES)}"
    rows = [row("a fade into silence", result.faded), row("concealment", result.concealed)]
    return "\n".join([head, *rows, row("gain", result.gain, interval=True)])


def main(
    clips: Annotated[list[str], typer.Argument(help="Files, folders and globs of speech.", metavar="CLIPS...")],
    count: Annotated[int, typer.Option("--clips", min=2, help="How many of them, spread evenly.")] = 10,
    kbps: Annotated[float, typer.Option(help="Codec rate.")] = 6.0,
    seconds: Annotated[float, typer.Option(min=2, max=60, help="Of each clip.")] = 4.0,
    share: Annotated[float, typer.Option(min=0.01, max=0.5, help="Frames that never come.")] = 0.05,
    draws: Annotated[int, typer.Option(min=1, max=100, help="Patterns of gaps for each clip.")] = 1,
    model: Annotated[str, typer.Option(help="default or a path.")] = "default",
) -> None:
    """Compare concealment with a fade into silence."""
    console = Terminal()
    found = [clip.file for clip in find_clips(clips)]
    if len(found) < 2:
        raise UsageError("an interval takes two clips or more")
    files = found[:: max(len(found) // count, 1)][:count]

    def progress(done: int, of: int) -> None:
        console.print(f"clip {done} of {of}", style="dim")

    result = compare(codec.load(model), files, kbps, seconds, Gaps(share), draws, progress)
    for line in table(result).splitlines():
        console.say(line)


if __name__ == "__main__":
    start(main)
