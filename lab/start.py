"""Starts a lab command."""

from __future__ import annotations

from collections.abc import Callable

import typer

from earshot.codec.errors import EarshotError
from earshot.codec.terminal import Terminal


def start(main: Callable[..., None]) -> None:
    """Runs a command with the arguments of this process. An EarshotError is its last line, and the
    exit status is 1."""
    try:
        typer.run(main)
    except EarshotError as error:
        Terminal(stderr=True).say(f"error: {error}")
        raise SystemExit(1) from error
