"""Peers that come and go in two rooms of a server: whether memory stays flat, no task is left and
no log warns.

python -m earshot.lab.soak --minutes 30
python -m earshot.lab.soak --minutes 5 --every 20 --json soak.json"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from earshot.codec.terminal import Terminal
from earshot.lab.soak.run import Found, Plan, soak
from earshot.lab.start import start

HEAD = (
    f"{'':6}{'minutes':>8}{'server MB':>11}{'tasks':>7}{'files':>7}"
    f"{'clients MB':>12}{'tasks':>7}{'threads':>9}{'calls':>7}"
)


def last_line(found: Found) -> str:
    """Returns what was seen last, under the columns of `HEAD`."""
    server, clients = found.server[-1], found.clients[-1]
    return (
        f"{server.after:6}{server.minutes:8.1f}{server.memory_mb:11.1f}{server.tasks or 0:7}{server.files:7}"
        f"{clients.memory_mb:12.1f}{clients.tasks or 0:7}{clients.threads:9}{found.crowd.calls:7}"
    )


def main(
    minutes: Annotated[float, typer.Option(min=0.1, max=24 * 60, help="How long peers come and go.")] = 30.0,
    peers: Annotated[int, typer.Option(min=2, max=64, help="How many peers.")] = 8,
    every: Annotated[float, typer.Option(min=1, help="Seconds from one look to the next.")] = 60.0,
    model: Annotated[str, typer.Option(help="default or a path.")] = "default",
    json_: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Let peers come and go, and see what is left. Exit status 1 if something is wrong."""
    console = Terminal()
    console.say(HEAD)
    found = soak(Plan(minutes, peers, every, model), lambda found: console.say(last_line(found)))
    crowd = found.crowd
    console.say(
        f"{crowd.calls} calls heard {crowd.frames} frames, with {crowd.reconnects} lost connections; for "
        f"{crowd.refused} of them the server was too busy"
    )
    if json_ is not None:
        json_.write_text(json.dumps(found.to_json(), indent=1) + "\n", "utf-8")
    for fault in (faults := found.faults()):
        console.say(f"wrong: {fault}")
    if faults:
        raise typer.Exit(1)


if __name__ == "__main__":
    start(main)
