"""The floors of docs/architecture.md, kept over the real import graph."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("codec", "server", "client")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))

SHELLS = {
    "codec": "imports what it needs when a model is loaded",
    "codec.audio_files": "reads files",
    "codec.benchmark": "empty",
    "codec.benchmark.cli": "the command `earshot bench`",
    "codec.benchmark.command": "what it does",
    "codec.benchmark.contenders": "steps engines",
    "codec.benchmark.graph": "writes ONNX",
    "codec.benchmark.inputs": "random weights, made-up voices",
    "codec.benchmark.machine": "measures the machine",
    "codec.benchmark.peers": "runs other packages",
    "codec.benchmark.pictures": "draws with matplotlib",
    "codec.benchmark.runner": "keeps the time",
    "codec.benchmark.runtimes": "runs other packages",
    "codec.benchmark.table": "draws on the terminal",
    "codec.download": "fetches weights, shows a bar",
    "codec.engine": "empty",
    "codec.engine.choice": "reads the environment",
    "codec.engine.native": "empty",
    "codec.file_coding": "finds files of language models",
    "codec.files": "reads and writes files",
    "codec.files_cli": "commands",
    "codec.foreign": "reads files of other packages",
    "codec.lm_weights": "reads and writes files",
    "codec.recording": "empty",
    "codec.recording.cli": "its command",
    "codec.recording.export": "writes audio files",
    "codec.recording.survey": "reads files",
    "codec.recording.table": "draws on the terminal",
    "codec.weights": "reads files",
    "server": "empty",
    "server.chores": "asks the clock, waits for work",
    "server.entropy": "waits for workers",
    "server.app": "the web application",
    "server.connection": "one WebSocket",
    "server.encoder_worker": "threads of codec work",
    "server.codec_session": "belongs to threads of codec work",
    "server.frame_queue": "threads wait in it",
    "server.worker_pool": "asks the clock and the system's cores",
    "server.loadtest": "empty",
    "server.loadtest.cli": "its command",
    "server.loadtest.generator": "sockets and time",
    "server.loadtest.picture": "draws with matplotlib",
    "server.loadtest.report": "shows a test",
    "server.loadtest.run": "runs other commands",
    "server.hub": "the rooms of the event loop",
    "server.listening": "empty",
    "server.listening.app": "the web application of a listening test",
    "server.listening.cli": "its command",
    "server.listening.clips": "reads sounds",
    "server.listening.record": "the files of the scores",
    "server.listening.report": "table and picture of the result",
    "server.listening.serve": "the process of a listening test",
    "server.listening.transport": "its connections",
    "server.record_writer": "the thread and files of recordings",
    "server.recorder": "the recordings of the event loop",
    "server.serve": "the process",
    "server.settings": "reads the environment",
    "server.transport": "uvicorn's protocols",
    "client": "empty",
    "client.audio": "the clock and threads of sound",
    "client.audio_devices": "sound devices",
    "client.audio_files": "files in real time",
    "client.call": "the event loop and the socket of a call",
    "client.connection": "waits for decoding",
    "client.entropy": "the thread of entropy coding",
    "client.children": "runs other commands",
    "client.conversation": "two clients and a server, watched",
    "client.demo": "shows a conversation",
    "client.demo_live": "microphone to loudspeaker",
    "client.display": "shows a call while it lasts",
    "client.figures": "reads the clock",
    "client.keyboard": "reads the terminal",
    "client.link": "the WebSocket of a call",
    "client.models": "the thread that decodes music",
    "client.pictures": "draws with matplotlib",
    "client.talker": "the encoder's thread",
    "client.view": "draws on the terminal",
}
"""Modules under no purity contract, and why."""

PROGRAMS = ("codec.training", "codec.evaluation")
"""Programs of their own beside the codec: they read files, count their time and show a bar."""

MAY_READ_ENVIRONMENT = {
    "codec.download",  # where the cache is, and whether a mirror is set
    "codec.engine.choice",  # which kernels are forced
    "codec.training.ranks",  # what torchrun says
    "server.loadtest.run",  # passed on to the server that it starts, with more
    "server.settings",
}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def contracts() -> list[dict[str, object]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def pure_modules() -> set[str]:
    """Modules of the contracts that forbid clocks."""
    found: set[str] = set()
    for contract in contracts():
        if contract["type"] == "forbidden" and "time" in contract["forbidden_modules"]:
            found |= set(contract["source_modules"])
    return found


def torchless_modules() -> set[str]:
    found: set[str] = set()
    for contract in contracts():
        if contract["type"] == "forbidden" and "torch" in contract["forbidden_modules"]:
            found |= set(contract["source_modules"])
    return found


def test_import_contracts_hold() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Contracts: {len(contracts())} kept, 0 broken." in done.stdout


def test_every_module_is_on_one_floor() -> None:
    modules = {name for file in FILES if not (name := module_name(file)).startswith(PROGRAMS)}
    placed = pure_modules() | set(SHELLS)
    assert sorted(modules - placed) == [], "name them in a contract of pyproject.toml, or in SHELLS with the reason"
    assert sorted(placed - modules) == [], "these are gone"
    assert sorted(pure_modules() & set(SHELLS)) == []


def test_importing_codec_does_not_import_torch() -> None:
    lines = ["import sys", *(f"import {name}" for name in ["codec", *sorted(torchless_modules())])]
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
    commands = {"codec.benchmark.cli", "codec.evaluation.cli", "codec.files_cli", "codec.recording.cli"}
    commands |= {"codec.training.cli", "codec.training.lm_cli", "server.listening.cli", "server.loadtest.cli"}
    for file in ("earshot.py", *(f"{name.replace('.', '/')}.py" for name in commands)):
        heavy = module_level_imports((ROOT / file).read_text()) - commands - {"codec.errors"}
        standard_library = {name for name in heavy if name.split(".")[0] in sys.stdlib_module_names}
        assert heavy - standard_library <= {"typer", "rich.console", "rich.table"}, file


def test_lazy_import_check_sees_imports_outside_functions() -> None:
    source = "try:\n    import torch\nexcept ImportError:\n    import numpy as np\ndef f():\n    import scipy\n"
    assert module_level_imports(source) == {"torch", "numpy"}


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_environment_is_read_in_settings_only(file: Path) -> None:
    if module_name(file) in MAY_READ_ENVIRONMENT:
        return
    names = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
    assert not names & {"environ", "environb", "getenv", "putenv"}


def test_files_stay_short() -> None:
    """Over 400 lines, a file says why in its first docstring, with the word `lines`."""
    long = [file for file in FILES if len(file.read_text().splitlines()) > 400]
    unexplained = [module_name(f) for f in long if "lines" not in (ast.get_docstring(ast.parse(f.read_text())) or "")]
    assert not unexplained
