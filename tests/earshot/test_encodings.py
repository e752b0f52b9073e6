"""Outputs that are not UTF-8, as on Windows, or in containers without a locale: no text of others
ends anything, and no file is read or written in the encoding of a machine."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.panel import Panel
from rich.progress import Progress
from rich.table import Table

from earshot.client.ui import display
from earshot.client.ui.view import SpeakerState, ViewState
from earshot.codec.terminal import Terminal, description_column, fit

ROOT = Path(__file__).parents[2]
ENCODINGS = ["cp1252", "cp437", "cp932", "ascii", "iso8859-1", "koi8-r", "utf-8"]
NAMES = ["Zoë 🎧", "Борис", "山田", "caf\udce9", "a\u0301\u200d", "█▌●…"]
"""Names and words that some of the encodings lack."""


def say(console: Terminal, name: str) -> None:
    console.say(f"{name} is here", "note:", "bold red")


def table(console: Terminal, name: str) -> None:
    rows = Table("name", title=name)
    rows.add_row(name, end_section=True)
    console.print(rows)


def panel(console: Terminal, name: str) -> None:
    console.print(Panel(name))


def bar(console: Terminal, name: str) -> None:
    with Progress(description_column(), console=console, auto_refresh=False) as progress:
        progress.add_task(name)


def state(name: str) -> ViewState:
    who = [SpeakerState(name), SpeakerState("Ben", -20.0, music=name, decodable=False)]
    about = {"state": "connected", "level_db": -20.0, "detail": name, "recording": True, "speakers": who}
    return ViewState(name, "den", "ws://here", **about)


def live_view(console: Terminal, name: str) -> None:
    with display.display(console, as_json=False) as screen:
        screen.show(state(name))


def json_lines(console: Terminal, name: str) -> None:
    display._Json().show(state(name))


@pytest.mark.parametrize("terminal", [False, True], ids=["piped", "terminal"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("show", [say, table, panel, bar, live_view, json_lines])
def test_no_text_is_too_much_for_an_output(
    show: Callable[[Terminal, str], None], encoding: str, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        raw = io.BytesIO()
        out = io.TextIOWrapper(raw, encoding=encoding, errors="strict", write_through=True)
        monkeypatch.setattr(sys, "stdout", out)
        show(Terminal(file=out, width=100, force_terminal=terminal), name)
        out.flush()
        assert raw.getvalue()
        raw.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", [*ENCODINGS, "no such encoding"])
def test_what_is_replaced_is_as_wide_as_it_was(encoding: str) -> None:
    for text in (*NAMES, "█████·····", "┏━┓"):
        text = text.replace("\udce9", "\ufffd")
        shown = fit(text, encoding)
        assert cell_len(shown) == cell_len(text)
    assert fit("██··", "ascii") == "##.."
    assert fit("Zoë", "cp1252") == "Zoë"
    assert fit("Zoë", "ascii") == "Zo?"


def test_an_output_that_breaks_ends_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that takes no such text nor a terminal that has gone."""

    class Call(SimpleNamespace):
        async def run(self) -> None:
            import asyncio

            await asyncio.sleep(0.05)

    class Broken:
        def __init__(self, error: Exception) -> None:
            self.error, self.asked = error, 0

        def show(self, state: object) -> None:
            self.asked += 1
            raise self.error

    import asyncio
    from contextlib import contextmanager

    names = ("leave", "toggle_mute", "toggle_recording", "step_rate", "step_latency")
    call = Call(room=SimpleNamespace(welcome=True), **dict.fromkeys(names, lambda: None))
    monkeypatch.setattr(display, "view_state", lambda call: state("Ada"))
    monkeypatch.setattr(display, "EVERY_S", 0.01)
    for error in (OSError(5, "gone"), ValueError("closed file"), UnicodeEncodeError("cp1252", "x", 0, 1, "no")):
        screen = Broken(error)

        @contextmanager
        def broken(console: Terminal, as_json: bool, screen: Broken = screen):
            yield screen

        monkeypatch.setattr(display, "display", broken)
        asyncio.run(display.run_in_terminal(call, Terminal(file=io.StringIO())))
        assert screen.asked > 2


@pytest.mark.parametrize(
    "words",
    [("--help",), ("call", "--help"), ("encode", "Борис 🎧.wav", "x.ecdc"), ("info", "山田.ecdc"), ("token", "山")],
    ids=["help", "help of a command", "an error", "another", "a room"],
)
def test_commands_speak_in_a_code_page(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "earshot", *words],
        cwd=ROOT / "tests",
        env={"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "LC_ALL": "C.UTF-8", "COLUMNS": "80"} | paths(),
        capture_output=True,
        check=False,
    )
    said = (done.stdout + done.stderr).decode("cp1252")
    assert "Traceback" not in said, said
    assert "Error" not in said.replace("UsageError", "")
    assert ("Usage" in said) == ("--help" in words)


def paths() -> dict[str, str]:
    """Returns what finds this copy of Earshot."""
    return {"PYTHONPATH": ":".join(filter(None, sys.path))}


def in_the_machines_encoding(file: Path) -> list[str]:
    """Returns where a file reads or writes text without saying in which encoding."""
    found = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        words = [word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
        text = any(set("rwax+") >= set(word) for word in words)  # a mode without b
        if (name == "read_text" and not node.args) or (name == "write_text" and len(node.args) < 2):
            found.append(f"{name} in line {node.lineno}")
        if name in ("open", "fdopen") and text and words != [""]:
            found.append(f"{name} in line {node.lineno}")
    return found


SOURCES = [
    file
    for part in ("earshot", "codec", "client", "recording", "lab", "server")
    for file in (ROOT / part).rglob("*.py")
]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_are_text_in_utf_8(file: Path) -> None:
    assert in_the_machines_encoding(file) == []


@pytest.mark.parametrize(
    "line", ["a.read_text()", "a.write_text(b)", "open(a, 'w')", "a.open('a')", "os.fdopen(d, 'w')"]
)
def test_such_lines_would_be_found(line: str, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(line)
    assert in_the_machines_encoding(tmp_path / "x.py")
