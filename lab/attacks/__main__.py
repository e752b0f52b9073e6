"""Attacks a server of this machine beside two real calls, and shows what came of it.

python -m earshot.lab.attacks
python -m earshot.lab.attacks --only pings,mutes --seconds 10
python -m earshot.lab.attacks --soak 10"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from earshot.codec.errors import UsageError
from earshot.codec.terminal import Terminal
from earshot.lab.attacks.attacker import ATTACKS
from earshot.lab.attacks.report import details, soak_table, table
from earshot.lab.attacks.results import Row
from earshot.lab.attacks.run import Plan, run
from earshot.lab.attacks.soak import Sample, soak
from earshot.lab.start import start

MOST_SECONDS = 60.0


def main(
    url: Annotated[str | None, typer.Option(help="A server that runs on this machine; its own if not given.")] = None,
    only: Annotated[str, typer.Option(help="Attacks, with commas between; all if not given.")] = "",
    seconds: Annotated[float, typer.Option(min=1, max=MOST_SECONDS, help="How long each attack lasts.")] = 20.0,
    scale: Annotated[float, typer.Option(min=0.001, max=1, help="Part of the full number and rate.")] = 1.0,
    soak_minutes: Annotated[
        float | None, typer.Option("--soak", min=0, max=120, help="Attack in turn for so long, beside 8 peers.")
    ] = None,
    model: Annotated[str, typer.Option(help="default or a path.")] = "default",
    json_: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Attack a server of this machine beside two real calls. Exit status 1 if one suffered."""
    console = Terminal()
    names = [name.strip() for name in only.split(",") if name.strip()] or list(ATTACKS)
    unknown = [name for name in names if name not in ATTACKS]
    if unknown:
        raise UsageError(f"there is no attack {unknown[0]!r}: {', '.join(ATTACKS)}")
    plan = Plan(names, seconds, scale, model)

    def show(what: str) -> None:
        console.print(what, style="dim")

    if soak_minutes is not None:
        samples: list[Sample] = []
        heard = soak(plan, soak_minutes, url, show, samples.append)
        console.print(soak_table(samples))
        console.print(
            f"8 honest peers heard {heard.frames} frames and lost {heard.lost}; the server added "
            f"{heard.added_p99_ms} ms (p99); closed: {'; '.join(heard.closed) or 'none'}"
        )
        if json_ is not None:
            json_.write_text(json.dumps([sample.to_json() for sample in samples], indent=1) + "\n", "utf-8")
        return
    rows: list[Row] = []

    def found(row: Row) -> None:
        rows.append(row)
        show(f"{row.attack}: {', '.join(row.faults()) or 'ok'}")

    try:
        run(plan, url, show, found)
    finally:
        if rows:
            console.print(table(rows))
            for line in (line for row in rows for line in details(row)):
                show(line)
        if json_ is not None:
            json_.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n", "utf-8")
    if any(row.faults() for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    start(main)
