"""No text is more than text on a terminal, and nothing is shown but through one console."""

from __future__ import annotations

import ast
import io
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.live import Live
from rich.panel import Panel
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from earshot.codec.terminal import Terminal, description_column, saying_more

HOSTILE = {
    "brackets": "Artist [live].wav",
    "an open bracket": "take [",
    "a closing tag": "[/x]",
    "braces": "take {0} {task} {",
    "a colour": "\x1b[31mred",
    "a title": "\x1b]0;owned\x07",
    "one byte of control": "\x9b2J",
    "a bidirectional override": "gpj\u202eexe",
    "a byte that is no text": "caf\udce9.wav",
    "an emoji code": ":bomb:.wav",
    "a line": "one\nerror: two",
}
OBEYED = set("\x1b\x07\x9b\u202e\udce9")

ROOT = Path(__file__).parents[2]
SHOWING = [file for part in ("earshot", "lab", "client", "recording", "codec") for file in (ROOT / part).rglob("*.py")]


def said(name: str) -> str:
    """Returns what may be shown of a hostile text."""
    kept = HOSTILE[name].replace("\udce9", "\ufffd").replace("\n", " ")
    return "".join(character for character in kept if character not in OBEYED)


def show_line(console: Terminal, text: str) -> None:
    console.say(text)


def show_label(console: Terminal, text: str) -> None:
    console.say(text, "failed:", "bold red")


def show_print(console: Terminal, text: str) -> None:
    console.print(text.replace("\n", " "))


def show_table(console: Terminal, text: str) -> None:
    table = Table("name", title="files")
    table.add_row(text.replace("\n", " "))
    console.print(table)


def show_headings(console: Terminal, text: str) -> None:
    console.print(Table(text.replace("\n", " "), title=text, caption=text))


def show_panel(console: Terminal, text: str) -> None:
    console.print(Panel(text.replace("\n", " "), title=Text(text)))


def show_live(console: Terminal, text: str) -> None:
    with Live(Text(text.replace("\n", " ")), console=console, auto_refresh=False):
        pass


def show_bar(console: Terminal, text: str) -> None:
    with Progress(description_column(), console=console, auto_refresh=False) as bar:
        bar.add_task(text.replace("\n", " "))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "show", [show_line, show_label, show_print, show_table, show_headings, show_panel, show_live, show_bar]
)
def test_a_text_is_shown_as_it_is_and_commands_nothing(show: Callable[[Terminal, str], None], name: str) -> None:
    console = Terminal(file=(out := io.StringIO()), width=100)
    show(console, HOSTILE[name])
    shown = out.getvalue()
    assert said(name) in shown
    assert not set(shown) & OBEYED
    assert "\nerror: two" not in shown


def test_the_cursor_still_moves() -> None:
    """What rich itself tells the terminal is no foreign text."""
    console = Terminal(file=(out := io.StringIO()), width=60, force_terminal=True)
    with Live(Text("\x1b[2Jone"), console=console, auto_refresh=False) as live:
        live.update(Text("two"), refresh=True)
    assert "\x1b[?25l" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()


def test_what_one_waits_for_makes_way_for_what_says_more() -> None:
    """Two that draw on one terminal would draw over each other."""
    console = Terminal(file=(out := io.StringIO()), width=60, force_terminal=True)
    with console.waiting("loading"):
        assert "loading" in out.getvalue()
        with saying_more():
            before = out.tell()
            assert out.getvalue().endswith(("\x1b[2K", "\x1b[?25h")), "its line is empty, and the cursor is back"
            time.sleep(0.2)
            assert out.tell() == before, "nothing is drawn meanwhile"
        assert "loading" in out.getvalue()[before:]
    console = Terminal(file=(out := io.StringIO()))
    with console.waiting("loading"), saying_more():
        pass
    assert out.getvalue() == ""


def test_a_long_line_is_neither_folded_nor_endless() -> None:
    console = Terminal(file=(out := io.StringIO()), width=20)
    console.say("x" * 50)
    console.say("y" * 10_000)
    assert [len(line) for line in out.getvalue().splitlines()] == [50, 1000]


def calls(file: Path) -> list[tuple[str, ast.Call]]:
    """Returns the calls of plain names in a file."""
    tree = ast.parse(file.read_text("utf-8"))
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [(node.func.id, node) for node in found if isinstance(node.func, ast.Name)]


def constant(call: ast.Call) -> str | None:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) else None


def faults(file: Path) -> list[str]:
    """Says which calls of a file could take a foreign text for markup."""
    found = []
    for name, call in calls(file):
        if name in ("Console", "track") or (name == "Progress" and not call.args):
            found.append(f"{name} in line {call.lineno}: its defaults take text for markup")
        if name == "TextColumn" and (
            (words := constant(call)) is None or ("description" in words and not call.keywords)
        ):
            found.append(f"TextColumn in line {call.lineno}: use description_column")
        if name == "Panel" and any(isinstance(word.value, ast.JoinedStr) for word in call.keywords):
            found.append(f"Panel in line {call.lineno}: its title is markup unless it is a Text")
    return found


@pytest.mark.parametrize("file", SHOWING, ids=lambda file: str(file.relative_to(ROOT)))
def test_nobody_makes_a_console_or_a_column_of_another_kind(file: Path) -> None:
    assert faults(file) == []


@pytest.mark.parametrize(
    "line",
    [
        "Console()",
        "track(files, name)",
        "Progress(console=console)",
        "TextColumn(name)",
        "TextColumn('{task.description}')",
        "Panel(view, title=f'{name}')",
    ],
)
def test_such_calls_would_be_found(line: str, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(line)
    assert faults(tmp_path / "x.py")


@pytest.mark.parametrize("width", [20, 60, 80])
def test_a_sentence_breaks_between_words_and_a_path_not_at_all(width: int) -> None:
    path = "/music/" + "x" * 100 + ".wav"
    out = io.StringIO()
    Terminal(file=out, width=width, force_terminal=True).say(f"{path} is not there, or is none", "error:", "bold")
    shown = re.sub(r"\x1b\[\d*m", "", out.getvalue())
    assert " ".join(shown.split("\n")).strip() == f"error: {path} is not there, or is none"
    assert all(len(line) <= width or line == path for line in shown.split("\n"))


@pytest.mark.parametrize("line", ["earshot evaluate CLIPS --model " + "runs/mine " * 10, "  " + "a word " * 4, ""])
def test_commands_stay_in_one_line_and_what_is_set_in_stays_so(line: str) -> None:
    out = io.StringIO()
    Terminal(file=out, width=60, force_terminal=True).say(line)
    assert out.getvalue().rstrip() == line.rstrip()
