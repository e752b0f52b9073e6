"""How `--help` shows what options take, in a terminal of 80 columns.

Typer writes `<float range> [x>=0]` or `<bool>`, in a column so wide that beside it defaults and
names of variables are cut. Here a switch takes nothing, and other options take one word or their
choices."""

from __future__ import annotations

import inspect
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from typer.core import TyperCommand, TyperGroup

KINDS = {bool: "", str: "TEXT", Path: "PATH", float: "NUMBER", int: "NUMBER"}
WIDEST = 13
"""Characters of a line of the column that says what an option takes."""


class _Short:
    params: list[Any]
    callback: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        hints = get_type_hints(inspect.unwrap(self.callback)) if self.callback else {}
        for param in self.params:
            if param.param_type_name == "option" and param.metavar is None:
                param.metavar = taken(hints.get(param.name))

    def get_help_option(self, ctx: Any) -> Any:
        """Returns the option `--help`, a switch like others."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.metavar = ""
        return option


class Command(_Short, TyperCommand):
    """A command whose help fits 80 columns."""


class Group(_Short, TyperGroup):
    """A command with commands of its own, whose help fits 80 columns."""


def taken(kind: Any) -> str | None:
    """Returns what an option of a type takes, in lines of at most `WIDEST` characters where choices
    are no longer; None leaves it to Typer."""
    inner = [each for each in get_args(kind) if each is not NoneType]
    if (get_origin(kind) is not None and len(inner) == 1) or NoneType in get_args(kind):
        return taken(inner[0])
    if isinstance(kind, type) and issubclass(kind, Enum):
        lines = [""]
        for choice in kind:
            if lines[-1] and len(lines[-1]) + len(choice.value) + 1 > WIDEST:
                lines.append("")
            lines[-1] += f"{choice.value}|"
        return "\n".join(lines)[:-1]
    return KINDS.get(kind)
