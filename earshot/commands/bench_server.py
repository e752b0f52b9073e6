"""The command `earshot bench server`; imports the rest when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earshot.codec.errors import UsageError
from earshot.commands.extras import require_lab
from earshot.commands.options import Kbps
from earshot.commands.targets import Force, check_names, claim


def server(
    model: Annotated[
        str, typer.Option(help="default, a path, or full: the official shape with random weights.")
    ] = "default",
    kbps: Kbps = 6.0,
    first: Annotated[int, typer.Option("--from", min=2, help="Speakers of the first step.")] = 20,
    last: Annotated[int, typer.Option("--to", min=2, help="Speakers of the last step.")] = 240,
    step: Annotated[int, typer.Option(min=2, help="Speakers more at each step.")] = 20,
    seconds: Annotated[float, typer.Option(min=1, help="How long each step counts.")] = 10.0,
    host_url: Annotated[
        str | None,
        typer.Option(
            "--url",
            "--host-url",
            help="A server that runs on this machine already, as ws://127.0.0.1:8765; for a crowd several, with commas"
            " between.",
        ),
    ] = None,
    listeners: Annotated[
        int, typer.Option(min=0, help="Measure a crowd of so many that only listens, in place of ever more speakers.")
    ] = 0,
    speakers: Annotated[int, typer.Option(min=1, max=200, help="Those whom the crowd hears; they send codes.")] = 1,
    rooms: Annotated[int, typer.Option(min=1, help="Rooms that speakers and listeners share out.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, max=8, help="Servers that are started for the crowd, over NATS.")] = 1,
    frames: Annotated[int, typer.Option(min=1, max=8, help="Frames in a message to one of the crowd.")] = 3,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw the curve into this file.")] = None,
    force: Force = False,
) -> None:
    """Find how many speakers a server on this machine can encode at once.

    A real server gets ever more clients that send PCM in real time, in rooms of
    two, until frames come too late (p99 of what the server adds passes one
    frame), are lost, or the server refuses another speaker (4013). Added is the
    time from a frame's last sample sent to its packet handed to the listener's
    socket. The clients share this machine with the server: where the column
    "late" is high, it was they who were slow. The server runs as where it has a
    machine to itself (EARSHOT_WORKER_NICE=20, unless that is set).

    \b
    earshot bench server --png server.png
    earshot bench server --model full --from 10 --step 10
    earshot bench server --listeners 1000 --nodes 2         1 speaker, 2 servers
    """
    require_lab()
    check_names(picture=png, figures=json_)
    claim([json_, png], force=force)

    import json

    from earshot.codec.terminal import Terminal
    from earshot.lab import VOICES
    from earshot.lab.loadtest.plan import Plan
    from earshot.lab.loadtest.report import show_run

    console = Terminal()
    if listeners:
        from earshot.lab.loadtest import crowd

        if png is not None:
            raise UsageError("of a crowd no picture is drawn; leave --png out")
        urls = [url.strip() for url in host_url.split(",")] if host_url else []
        found = crowd.run(console, urls, nodes, model, speakers, listeners, rooms, frames, kbps, seconds)
        if json_ is not None:
            json_.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        return
    findings = show_run(console, Plan(first, last, step, seconds, kbps), model, VOICES, host_url)
    if json_ is not None:
        json_.write_text(json.dumps(findings.to_json(), indent=1) + "\n", "utf-8")
    if png is not None:
        from earshot.lab.loadtest.picture import draw

        draw(findings, png)
