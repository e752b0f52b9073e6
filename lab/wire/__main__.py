"""What calls of a minute cost on the wire, both ways: with the headers of IPv4, TCP, TLS and
WebSocket, acknowledgements and control messages, as the kernel counts them at a client's socket.

python -m earshot.lab.wire
python -m earshot.lab.wire --only default,silence --seconds 20 --json wire.json"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from earshot.codec.errors import UsageError
from earshot.codec.terminal import Terminal
from earshot.lab.start import start
from earshot.lab.wire.run import CASES, Row, measure
from earshot.lab.wire.sockets import why_not

HEAD = (
    "| call | codec kbps | --latency | sent | wire kbps up | down | asked for |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


def table(rows: list[Row]) -> str:
    """Returns the rows as a table in Markdown. "sent" is the share of the time."""
    lines = [HEAD]
    for row in rows:
        case = row.case
        cells = [case.label, f"{case.kbps:g}", case.latency, f"{row.share:.0%}", f"{row.up_kbps:.1f}"]
        lines.append(f"| {' | '.join([*cells, f'{row.down_kbps:.1f}', f'{case.most_kbps:g}'])} |")
    return "\n".join(lines)


def main(
    only: Annotated[str, typer.Option(help="Calls, with commas between; all if not given.")] = "",
    seconds: Annotated[float, typer.Option(min=5, max=600, help="How long is counted.")] = 60.0,
    model: Annotated[str, typer.Option(help="default or a path.")] = "default",
    json_: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Count what calls cost on the wire. Exit status 1 if one costs more than it may."""
    console = Terminal()
    if (reason := why_not()) is not None:
        console.say(f"skipped: {reason}")
        return
    keys = [case.key for case in CASES]
    names = [name.strip() for name in only.split(",") if name.strip()] or keys
    if unknown := [name for name in names if name not in keys]:
        raise UsageError(f"there is no call {unknown[0]!r}: {', '.join(keys)}")
    with tempfile.TemporaryDirectory(prefix="earshot-") as folder:
        rows = measure([case for case in CASES if case.key in names], seconds, model, Path(folder))
    for line in table(rows).splitlines():
        console.say(line)
    if json_ is not None:
        json_.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n", "utf-8")
    if any(row.is_too_much for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    start(main)
