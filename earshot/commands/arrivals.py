"""The command `earshot arrivals`; imports the rest when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earshot.codec.terminal import Terminal

console = Terminal()


def arrivals(
    files: Annotated[list[Path], typer.Argument(help="What `earshot call --arrivals FILE` wrote.", metavar="FILE...")],
    block: Annotated[int, typer.Option(min=0, help="Samples that the output takes at once; 0: a frame.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each speaker.")] = False,
) -> None:
    """Play the arrival times of a call again through the jitter buffer.

    Prints for each speaker how long there was nothing to play (underrun), the
    delay that the jitter buffer added, and how much of the sound was cut out
    or repeated to keep that delay low. The same file gives the same figures,
    so that two versions of the jitter buffer can be compared.

    \b
    earshot call den --arrivals tonight.txt
    earshot arrivals tonight.txt
    """
    import json
    from dataclasses import asdict

    from rich.table import Table

    from earshot.client.core.replay import parse_trace, replay
    from earshot.codec.errors import DataError

    table = Table("file", "speaker", "s", "underruns", "for s", "missing", "p50 ms", "p95", "p99", "scaled %", box=None)
    for file in files:
        try:
            trace = parse_trace(file.read_text(encoding="utf-8"))
        except (DataError, UnicodeDecodeError) as error:
            raise DataError(f"{file}: {error}") from error
        if not trace.sources:
            Terminal(stderr=True).say(f"{file}: nobody was heard in this call", "note:", "yellow")
        for source in trace.sources:
            figures = replay(trace, source, block).figures()
            if as_json:
                print(json.dumps({"file": str(file), "speaker": source} | asdict(figures)))
            table.add_row(
                file.name,
                str(source),
                f"{figures.seconds:.1f}",
                str(figures.underruns),
                f"{figures.underrun_s:.2f}",
                str(figures.frames_missing),
                *(f"{ms:.0f}" for ms in (figures.delay_p50_ms, figures.delay_p95_ms, figures.delay_p99_ms)),
                f"{100 * figures.time_scaled_share:.1f}",
            )
    if not as_json and table.rows:
        console.print(table)
