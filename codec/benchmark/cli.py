"""The command `earshot bench`, and the group that its sub-commands hang in; imports the rest when it runs."""

from __future__ import annotations

import typer

bench = typer.Typer(help="Measure how fast the engines are.")


@bench.callback(invoke_without_command=True)
def engines(context: typer.Context) -> None:
    """Measure how fast the engines are."""
    if context.invoked_subcommand is None:
        raise typer.Exit(1)
