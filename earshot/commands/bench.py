"""The command `earshot bench`, and the group that its sub-commands hang in; imports the rest when
it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earshot.commands.extras import require_lab
from earshot.commands.help import Group
from earshot.commands.progress import Lines
from earshot.commands.targets import Force, check_names, claim

bench = typer.Typer(cls=Group)


@bench.callback(invoke_without_command=True)
def engines(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option(help="default, full (the official shape, random weights; with --quick), encodec_24khz or a path."),
    ] = None,
    kbps: Annotated[float, typer.Option(help="Codec rate.")] = 6.0,
    batches: Annotated[
        str, typer.Option(help="Streams in a step, as 1,8,32; 1 is also paced as in a call. 1 to 64 if not given.")
    ] = "",
    rounds: Annotated[int | None, typer.Option(min=1, help="In each everyone takes a turn; 7, with --quick 3.")] = None,
    peers: Annotated[bool, typer.Option(help="Others that are installed, beside the engines.")] = True,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32, bf16, fp16 or int8, again for each; all if none is given.")
    ] = None,
    kernels: Annotated[
        list[str] | None,
        typer.Option(help="Of the native engine, again for each: auto (the fastest), all, or a name (docs/engine.md)."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of torch and the peers; the native engine has one.")] = 1,
    json: Annotated[Path | None, typer.Option(help="Write the rows to this file.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw streams a core against streams in a step.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Within a minute: 1 and 32 streams, short turns, the full-size model.")
    ] = False,
    force: Force = False,
) -> None:
    """Measure the engines, beside others and the floor of this machine.

    \b
    earshot bench --quick
    earshot bench --model full --json out.json --png out.png   minutes
    earshot bench --no-peers --kernels all --batches 1,32

    Everyone takes turns in one run, frame by frame, on one thread. A figure is
    the median over rounds of the milliseconds of processor for a second of
    sound of one stream. The floor is what the multiply-adds, or reading the
    weights, would take at the best speed that this core shows in the same
    rounds. Run it on an otherwise idle machine.
    """
    if context.invoked_subcommand is not None:
        return
    require_lab()
    check_names(picture=png, figures=json)
    claim([json, png], force=force)

    import shlex
    import sys
    import time

    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from earshot.codec.errors import UsageError
    from earshot.codec.terminal import Terminal, description_column
    from earshot.lab.benchmark.command import BenchmarkOptions, run
    from earshot.lab.benchmark.inputs import FULL
    from earshot.lab.benchmark.table import result_table

    try:
        requested = [int(batch) for batch in batches.split(",") if batch.strip()]
    except ValueError as error:
        raise UsageError(f"--batches takes whole numbers, as 1,8,32, not {batches!r}") from error
    options = BenchmarkOptions(
        model=model or (FULL if quick else BenchmarkOptions.model),
        kbps=kbps,
        batches=requested,
        rounds=rounds,
        quick=quick,
        peers=peers,
        precisions=tuple(precision or BenchmarkOptions.precisions),
        kernels=tuple(kernels or BenchmarkOptions.kernels),
        threads=threads,
        json=json,
        png=png,
    )
    console = Terminal()
    began = time.monotonic()
    lines = None if console.is_terminal else Lines("measuring")
    if lines is not None:
        Terminal(stderr=True).say("measuring; this takes a minute with --quick, minutes without")
    columns = (
        description_column(),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
    )
    # It is drawn between turns: a thread that draws would be counted as work.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("starting", total=1.0)

        def show(label: str, done: float) -> None:
            bar.update(task, description=label, completed=done)
            if lines is None:
                bar.refresh()
            else:
                lines.show(done, 1.0, label)

        results = run(options, shlex.join(["earshot", *sys.argv[1:]]), show)
    console.print(result_table(results))
    console.say(f"measured in {time.monotonic() - began:.0f} s")
    for file in filter(None, (json, png)):
        console.say(f"written to {file}")
