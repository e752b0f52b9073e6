"""The command `earshot listen`; imports the rest when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earshot.commands.extras import require_lab


def listen(
    folder: Annotated[
        Path, typer.Argument(help="Clips to rate: the folder audio/ of `earshot evaluate --save-audio`.")
    ],
    results: Annotated[
        bool, typer.Option("--results", help="Only show what was rated so far: table and picture.")
    ] = False,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Rate only so many of the clips, drawn by the seed; all if not given.")
    ] = None,
    systems: Annotated[
        list[str] | None, typer.Option(help="Rate only this one, again for each; all if none is given.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines rate.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one and prints it.")] = 8766,
    seed: Annotated[int, typer.Option(help="Same seed and rater: same order of clips and sounds.")] = 1,
    max_raters: Annotated[int, typer.Option(min=1, help="How many may rate.")] = 500,
) -> None:
    """Let people judge systems by ear: a blind MUSHRA test (ITU-R BS.1534) in the browser.

    FOLDER holds a folder for each clip, with reference.wav and SYSTEM.wav for
    each system. A low anchor (3.5 kHz) and the hidden reference join them.
    Scores go to FOLDER/scores.csv one trial at a time; a test that was stopped
    goes on. Ctrl-C ends it: raters who miss the reference or praise the anchor
    are left out, and the means are shown and drawn (FOLDER/scores.png).

    \b
    earshot evaluate --out out/judged --save-audio clips/
    earshot listen out/judged/audio               rate, then Ctrl-C
    earshot listen out/judged/audio --results     look again
    """
    require_lab()

    from earshot.codec.terminal import Terminal
    from earshot.lab.listening.serve import listen as run_test
    from earshot.lab.listening.serve import show_results

    console = Terminal()
    if results:
        show_results(console, folder)
    else:
        run_test(console, folder, host, port, tuple(systems or ()), trials, seed, max_raters)
