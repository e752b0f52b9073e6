"""The extra `lab`: its commands say how to get it, and nothing else needs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from earshot import cli
from earshot.commands.extras import LAB_PACKAGES

ROOT = Path(__file__).parents[2]
COMMANDS = (
    ["bench"],
    ["bench", "server"],
    ["bench", "page"],
    ["demo"],
    ["evaluate", "clips"],
    ["latency"],
    ["listen", "audio"],
    ["train", "lite"],
    ["train-lm", "default", "voices"],
)
NEEDS_NO_LAB = ("codec", "protocol", "recording", "server", "client", "earshot")


def test_the_extra_is_what_the_commands_ask_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lab = {re.split(r"\W", requirement)[0] for requirement in project["optional-dependencies"]["lab"]}
    assert lab == set(LAB_PACKAGES)
    assert not lab & {re.split(r"\W", requirement)[0] for requirement in project["dependencies"]}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("package", LAB_PACKAGES)
def test_a_command_of_the_lab_says_in_a_line_what_is_missing(
    command: list[str],
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(sys, "argv", ["earshot", *command])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: this command needs {package}: pip install 'earshot[lab]'\n"
    assert not list(tmp_path.iterdir())


def test_calls_and_servers_need_no_lab() -> None:
    """Imports every module but those of the lab with its packages hidden."""
    files = [file for folder in NEEDS_NO_LAB for file in sorted((ROOT / folder).rglob("*.py"))]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    names = [name if name.startswith("earshot") else f"earshot.{name}" for name in names if "__main__" not in name]
    assert len(names) > 80
    lines = ["import importlib, sys", f"for name in {LAB_PACKAGES!r}: sys.modules[name] = None"]
    lines += [f"for name in {names!r}: importlib.import_module(name)"]
    lines += ["sys.exit([name for name in sys.modules if name.startswith('earshot.lab')] or 0)"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
