"""The `earshot` command line: its commands, and how their errors are shown."""

from __future__ import annotations

import gc
import io
import sys
from typing import Annotated

import typer

from earshot.codec.errors import EarshotError
from earshot.codec.terminal import Terminal
from earshot.commands.arrivals import arrivals
from earshot.commands.bench import bench
from earshot.commands.bench_page import page
from earshot.commands.bench_server import server
from earshot.commands.call import call
from earshot.commands.demo import demo
from earshot.commands.devices import devices
from earshot.commands.evaluate import evaluate
from earshot.commands.export import export
from earshot.commands.files import decode, encode, info
from earshot.commands.help import Command, Group
from earshot.commands.latency import latency
from earshot.commands.listen import listen
from earshot.commands.moderate import moderate
from earshot.commands.serve import serve
from earshot.commands.token import token
from earshot.commands.train import export_model, train
from earshot.commands.train_lm import train_lm

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,  # they would be pages of arrays, and words of users
    help="Voice chat at 1.5 to 12 kbps with a streaming EnCodec.",
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"earshot {version('earshot')}")
        except PackageNotFoundError as error:
            raise EarshotError("earshot is not installed, so that its version is not known") from error
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Voice chat at 1.5 to 12 kbps with a streaming EnCodec."""


for command in (
    *(serve, call, token, moderate, devices, demo, latency, arrivals),
    *(encode, decode, info, export),
    *(evaluate, listen, train, train_lm, export_model),
):
    app.command(cls=Command)(command)
app.add_typer(bench, name="bench")
bench.command(cls=Command)(server)
bench.command(cls=Command)(page)


def main() -> None:
    """Runs the command line; errors that Earshot raises on purpose, and what the system refuses (a
    folder that cannot be written, a full disk), become one line and exit status 1."""
    for stream in (sys.stdout, sys.stderr):  # help texts and names, in code pages as Windows has
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except (EarshotError, OSError) as error:
        said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        shown = Terminal(stderr=True)
        first, *more = said.split("\n")
        shown.say(first, "error:", "bold red")
        for line in more:
            shown.say(line)
        raise SystemExit(1) from error
    finally:
        gc.unfreeze()  # what calls and servers froze is freed, or nanobind prints pages of what it calls leaks


if __name__ == "__main__":
    main()
