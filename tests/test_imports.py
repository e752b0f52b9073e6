"""Keeps the walls of docs/architecture.md over the real import graph, and breaks each once."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("codec", "protocol", "recording", "server", "client", "lab", "web")
FILES = sorted(file for folder in ("earshot", *FOLDERS) for file in (ROOT / folder).rglob("*.py"))
PURE = ("protocol", "server/core", "client/core")

LIGHT = {f"earshot.codec.{name}" for name in ("audio_formats", "errors", "targets", "terminal")}
"""Modules that commands import before they run: they import nothing but the library of Python, and
rich."""

MAY_READ_ENVIRONMENT = {
    "codec/weights/download.py",  # where the cache is, and whether a mirror is set
    "codec/engine/choice.py",  # which kernels are forced
    "lab/training/fast/build.py",  # which compiler
    "lab/training/ranks.py",  # what torchrun says
    "lab/devices/sound_server.py",  # passed on to what uses its devices, with more
    "lab/loadtest/run.py",  # passed on to the server that it starts, with more
    "server/access/keys.py",  # where a user's own configuration is
    "server/settings.py",
}


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def contracts() -> list[dict[str, object]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Copies the sources as they are named when installed: server/core is earshot/server/core."""
    pattern = shutil.ignore_patterns("*.so", "*.safetensors", "*.flac", "__pycache__")
    shutil.copytree(ROOT / "earshot", tmp_path / "earshot", ignore=pattern)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / "earshot" / folder, ignore=pattern)
    return tmp_path


def check(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", ROOT / "pyproject.toml"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)


def test_import_contracts_hold(tree: Path) -> None:
    done = check(tree)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Contracts: {len(contracts())} kept, 0 broken." in done.stdout


BREACHES = {
    "a clock in a core": ("server/core/room.py", "import time", "Protocol and the cores"),
    "torch in a core": ("client/core/jitter.py", "import torch", "Protocol and the cores"),
    "the lab in the server": ("server/hub.py", "import earshot.lab.demo.measure", "Imports go down"),
    "the client in the server": ("server/app.py", "import earshot.client.call", "Imports go down"),
    "a circle": (
        "server/core/uplink.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from earshot.server.core.room import Room",
        "No circles",
    ),
    "torch in the server": ("server/app.py", "import torch", "Server and client leave torch"),
    "music in the talk path": ("client/core/receiver.py", "import earshot.client.music.mixer", "Talk knows nothing"),
    "a folder that is on no floor": ("attic/__init__.py", "", "Imports go down"),
    "CUDA in the server": ("server/app.py", "import earshot.codec.engine.cuda.engine", "Only the choice"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_each_wall_fails_when_it_is_broken(tree: Path, breach: str) -> None:
    """The contracts would be worth nothing if they held whatever is imported."""
    name, line, contract = BREACHES[breach]
    file = tree / "earshot" / name
    file.parent.mkdir(exist_ok=True)
    before = file.read_text() if file.exists() else ""
    file.write_text(f"{before}\n{line}\n")
    done = check(tree)
    assert done.returncode == 1, done.stdout
    if breach == "a folder that is on no floor":
        assert "earshot.attic" in done.stdout
    else:
        broken = [heading for heading in done.stdout.splitlines() if heading.endswith(" BROKEN")]
        assert any(heading.startswith(contract) for heading in broken), done.stdout


def test_importing_the_pure_parts_imports_no_torch() -> None:
    """Checked by importing them: contracts see what files say, and this what Python does."""
    files = [relative(file) for file in FILES if relative(file).startswith(PURE)]
    modules = [name.removesuffix(".py").replace("/", ".") for name in files]
    lines = ["import sys", *(f"import earshot.{name.removesuffix('.__init__')}" for name in ["codec", *modules])]
    lines.append("found = {'torch', 'asyncio', 'fastapi', 'websockets', 'sounddevice'} & set(sys.modules)")
    lines.append("sys.exit(', '.join(sorted(found)) if found else 0)")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"imported on the way: {done.stderr}"


def module_level_imports(source: str) -> set[str]:
    """Top-level packages imported by executing a file, functions left out."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        pending.extend(ast.iter_child_nodes(node))
    return found


def test_command_line_imports_lazily() -> None:
    """`earshot --help` must not wait for torch, nor a listener for the trainer."""
    for file in (ROOT / "earshot").rglob("*.py"):
        names = module_level_imports(file.read_text()) - LIGHT
        names = {name for name in names if not name.startswith(("earshot.commands", "earshot.cli"))}
        heavy = {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}
        assert heavy <= {"typer", "typer.core", "rich.table"}, relative(file)


def test_lazy_import_check_sees_imports_outside_functions() -> None:
    source = "try:\n    import torch\nexcept ImportError:\n    import numpy as np\ndef f():\n    import scipy\n"
    assert module_level_imports(source) == {"torch", "numpy"}


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_environment_is_read_in_settings_only(file: Path) -> None:
    if relative(file) in MAY_READ_ENVIRONMENT:
        return
    names = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
    assert not names & {"environ", "environb", "getenv", "putenv"}


def test_files_stay_short() -> None:
    """Over 400 lines, a file says why in its first docstring, with the word `lines`."""
    long = [file for file in FILES if len(file.read_text().splitlines()) > 400]
    unexplained = [relative(f) for f in long if "lines" not in (ast.get_docstring(ast.parse(f.read_text())) or "")]
    assert not unexplained
