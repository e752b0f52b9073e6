"""The command `earshot demo`; imports the rest when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earshot.codec.terminal import Terminal
from earshot.commands.extras import require_lab
from earshot.commands.options import Kbps, Model
from earshot.commands.targets import Force, claim_folder

console = Terminal()


def demo(
    live: Annotated[
        bool, typer.Option("--live", help="From the microphone to the loudspeaker of this machine.")
    ] = False,
    web: Annotated[bool, typer.Option("--web", help="In two tabs of this machine's browser.")] = False,
    kbps: Kbps = 6.0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for recordings, pictures and report.json; out/demo if not given, written anew."),
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="How long to talk; about 20 s if not given.")] = None,
    model: Model = "default",
    force: Force = False,
) -> None:
    """Let two voices talk through a server on this machine: hear it, see it, and read the figures.

    \b
    earshot demo
    earshot demo --live                           with your own voice
    earshot demo --web                            in two tabs of your browser

    Exit status 1 if anything was not heard.
    """
    require_lab()

    from earshot.codec.weights.shape import check_rate

    check_rate(model, kbps)
    if web:
        from earshot.lab.demo.tabs import tabs

        tabs(console, model, seconds)
        return
    folder = claim_folder(out, Path("out/demo"), force)

    import sys

    from earshot.lab.demo.conversation import DEMO, Plan
    from earshot.lab.demo.live import live as run_live
    from earshot.lab.demo.show import demo as run_demo

    if live:
        good = run_live(console, folder, kbps, model, seconds or 20.0)
    else:
        good = run_demo(console, Plan(DEMO, folder, kbps=kbps, model=model, seconds=seconds))
    sys.exit(0 if good else 1)
