"""What `--help` shows fits a terminal of 80 columns, whole."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from earshot.cli import app
from earshot.commands.help import WIDEST, taken

GROUP = typer.main.get_command(app)
COMMANDS = [(), *((name,) for name in GROUP.commands), ("bench", "server"), ("bench", "page")]  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_is_whole_in_80_columns(command: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line], "a default or a name of a variable is cut"
    assert "<bool>" not in shown.stdout, "a switch takes nothing"


@pytest.mark.parametrize("command", COMMANDS[1:], ids=" ".join)
def test_an_example_stays_on_its_line(command: tuple[str, ...]) -> None:
    found = GROUP
    for name in command:
        found = found.commands[name]  # type: ignore[attr-defined]
    for paragraph in (found.help or "").split("\b")[1:]:
        for line in paragraph.split("\n\n")[0].splitlines():
            assert len(line) <= 78


@pytest.mark.parametrize("command", COMMANDS[1:], ids=" ".join)
def test_every_command_has_an_example(command: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*command, "--help"]).stdout
    assert re.search(rf"^\W*earshot {' '.join(command)}\b", shown, re.M)


class Pace(StrEnum):
    """Choices that are too long for one line."""

    low = "low"
    balanced = "balanced"
    thrift = "thrift"


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (bool, ""),
        (int | None, "NUMBER"),
        (list[float], "NUMBER"),
        (list[str] | None, "TEXT"),
        (Path, "PATH"),
        (Pace, "low|balanced|\nthrift"),
        (bytes, None),
        (None, None),
    ],
    ids=str,
)
def test_what_an_option_takes_is_said_in_a_word(kind: object, shown: str | None) -> None:
    assert taken(kind) == shown
    assert all(len(line) <= WIDEST for line in (shown or "").split("\n"))


def options_of(words: list[str]) -> tuple[str, set[str], set[str]]:
    """Returns the command that words name after `earshot`, the options among them, and those that
    it has."""
    found, names = GROUP, []
    while words and words[0] in getattr(found, "commands", {}):
        found = found.commands[words[0]]  # type: ignore[attr-defined]
        names.append(words.pop(0))
    known = {name for param in found.params for name in (*param.opts, *param.secondary_opts)}
    used = {word.split("=")[0] for word in words if word.startswith("--")}
    return " ".join(names), used, known | {"--help"}


def examples() -> list[str]:
    """Returns what follows `earshot` in the code blocks of the documents and in the help texts."""
    root = Path(__file__).parents[2]
    texts = [file.read_text("utf-8") for file in (root / "README.md", *sorted((root / "docs").glob("*.md")))]
    texts += [file.read_text("utf-8") for file in sorted((root / "earshot" / "commands").glob("*.py"))]
    return sorted({line for text in texts for line in re.findall(r"^ {4}(?:\.venv/bin/)?earshot (.+)", text, re.M)})


def test_every_example_names_options_that_there_are() -> None:
    lines = examples()
    assert len(lines) > 60
    wrong = {}
    for line in lines:
        name, used, known = options_of(re.split(r"\s+#\s|\s{3,}", line)[0].split())
        if not name or not used <= known:
            wrong[line] = sorted(used - known)
    assert wrong == {}
