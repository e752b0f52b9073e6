"""The documents: lines that fit a screen, links that lead somewhere, commands that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import typer

from earshot import cli
from earshot.protocol.close_codes import CloseCode

ROOT = Path(__file__).parents[1]
WIDTH = 100
README_LINES = 110

pytestmark = pytest.mark.skipif(not shutil.which("git") or not (ROOT / ".git").exists(), reason="git lists the files")


@cache
def documents() -> dict[str, str]:
    """Returns the text of every Markdown file that git has, by its path."""
    listed = subprocess.run(["git", "ls-files", "-z", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]
    assert "README.md" in names
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names}


def parts(text: str) -> Iterator[tuple[int, bool, str]]:
    """Yields number, whether it is code, and text of each line. Code is fenced, or indented by four
    columns after an empty line."""
    fenced = code = False
    before = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
            yield number, True, ""
        else:
            code = (line.startswith("    ") and (code or not before.strip())) or (code and not line.strip())
            yield number, fenced or code, line
        before = line


def too_long(text: str) -> list[int]:
    """Returns the numbers of lines over `WIDTH` columns that could be broken: not those of tables,
    of code, or of one word."""
    return [
        number
        for number, code, line in parts(text)
        if len(line) > WIDTH and not code and not line.startswith("|") and " " in line.strip()
    ]


def code_of(text: str) -> list[str]:
    """Returns the lines of code blocks, and what stands between backticks elsewhere."""
    lines = list(parts(text))
    prose = "\n".join("" if code else line for _, code, line in lines)
    return [line for _, code, line in lines if code] + [
        " ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)
    ]


def anchors(text: str) -> set[str]:
    """Returns the names by which links reach the headings of a document."""
    headings = [line.lstrip("#").strip() for _, code, line in parts(text) if line.startswith("#") and not code]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> set[str]:
    found = set(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
    assert "call" in found
    return found


def test_lines_fit_a_screen() -> None:
    assert {name: numbers for name, text in documents().items() if (numbers := too_long(text))} == {}


def test_a_long_line_is_found_but_where_it_cannot_be_broken() -> None:
    long = "word " * 30
    assert too_long(f"{long}\n| {long}|\n\n    {long}\n\n```\n{long}\n```\n{'x' * 120}\n- {long}\n") == [1, 9 + 1]


def test_the_readme_is_short_and_names_the_two_commands() -> None:
    lines = documents()["README.md"].splitlines()
    assert len(lines) <= README_LINES
    assert [line for line in lines if len(line) > WIDTH] == []
    first_screen = "\n".join(lines[:40])
    assert "make demo" in first_screen
    assert "make test" in first_screen
    assert "docs/images/" in first_screen


@pytest.mark.parametrize("name", documents())
def test_links_lead_somewhere(name: str) -> None:
    prose = "\n".join("" if code else line for _, code, line in parts(documents()[name]))
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("name", documents())
def test_commands_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for line in code_of(documents()[name]):
        said = line.partition(" #")[0]
        for word in re.findall(r"(?:^|[/ ])(?<!from )earshot ([a-z][a-z-]*)", said):
            assert word in commands(), line
        for word in re.findall(r"^make (?:[A-Z]+=\S+ )?([a-z]+)", said):
            assert word in targets, line
        for module in re.findall(r"python -m ([a-z_.]+)", said):
            assert find_spec(module), line


def test_every_close_code_is_in_the_protocol() -> None:
    rows = re.findall(r"^\| (4\d{3}) \|", documents()["docs/protocol.md"], re.M)
    assert [int(row) for row in rows] == [code.value for code in CloseCode]


def test_the_example_in_python_runs() -> None:
    """With sound to code, the lines of README give back as much as went in."""
    (example,) = re.findall(r"```python\n(.*?)```", documents()["README.md"], re.S)
    names: dict[str, object] = {"blocks": [np.zeros(1000, np.float32)] * 3}
    exec(example, names)  # noqa: S102 -- it is this repository's own
    assert isinstance(names["tail"], np.ndarray)
    assert names["codes"].shape[0] == 8  # type: ignore[attr-defined]
