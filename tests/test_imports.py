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
    "earshot.codec.ecdc.audio_files": "reads files",
    "earshot.lab.benchmark": "empty",
    "earshot.commands.bench": "the command `earshot bench`",
    "earshot.lab.benchmark.command": "what it does",
    "earshot.lab.benchmark.candidates": "steps engines",
    "earshot.lab.benchmark.graph": "writes ONNX",
    "earshot.lab.benchmark.inputs": "random weights, made-up voices",
    "earshot.lab.benchmark.machine": "measures the machine",
    "earshot.lab.benchmark.peers": "runs other packages",
    "earshot.lab.benchmark.pictures": "draws with matplotlib",
    "earshot.lab.benchmark.runner": "keeps the time",
    "earshot.lab.benchmark.runtimes": "runs other packages",
    "earshot.lab.benchmark.table": "draws on the terminal",
    "earshot.codec.weights.download": "fetches weights, shows a bar",
    "earshot.codec.engine": "empty",
    "earshot.codec.engine.choice": "reads the environment",
    "earshot.codec.engine.native": "empty",
    "earshot.codec.ecdc.coding": "finds files of language models",
    "earshot.codec.ecdc.files": "reads and writes files",
    "earshot.commands.files": "commands",
    "earshot.codec.weights.foreign": "reads files of other packages",
    "earshot.codec.lm.weights": "reads and writes files",
    "earshot.recording": "empty",
    "earshot.commands.export": "its command",
    "earshot.recording.export": "writes audio files",
    "earshot.recording.survey": "reads files",
    "earshot.recording.table": "draws on the terminal",
    "earshot.codec.weights.load": "reads files",
    "server": "empty",
    "earshot.server.encoding.coding_tasks": "asks the clock, waits for work",
    "earshot.server.entropy.links": "waits for workers",
    "earshot.server.app": "the web application",
    "earshot.server.net.connection": "one WebSocket",
    "earshot.server.encoding.worker": "threads of codec work",
    "earshot.server.encoding.session": "belongs to threads of codec work",
    "earshot.server.encoding.queue": "threads wait in it",
    "earshot.server.encoding.pool": "asks the clock and the system's cores",
    "earshot.lab.loadtest": "empty",
    "earshot.commands.bench_server": "its command",
    "earshot.lab.loadtest.generator": "sockets and time",
    "earshot.lab.loadtest.picture": "draws with matplotlib",
    "earshot.lab.loadtest.report": "shows a test",
    "earshot.lab.loadtest.run": "runs other commands",
    "earshot.server.hub": "the rooms of the event loop",
    "earshot.lab.listening": "empty",
    "earshot.lab.listening.app": "the web application of a listening test",
    "earshot.commands.listen": "its command",
    "earshot.lab.listening.clips": "reads sounds",
    "earshot.lab.listening.record": "the files of the scores",
    "earshot.lab.listening.report": "table and picture of the result",
    "earshot.lab.listening.serve": "the process of a listening test",
    "earshot.lab.listening.transport": "its connections",
    "earshot.server.recording.writer": "the thread and files of recordings",
    "earshot.server.recording.recorder": "the recordings of the event loop",
    "earshot.server.net.serve": "the process",
    "earshot.server.settings": "reads the environment",
    "earshot.server.net.transport": "uvicorn's protocols",
    "client": "empty",
    "earshot.client.audio.endpoints": "the clock and threads of sound",
    "earshot.client.audio.devices": "sound devices",
    "earshot.client.audio.files": "files in real time",
    "earshot.client.call": "the event loop and the socket of a call",
    "earshot.client.net.connection": "waits for decoding",
    "earshot.client.entropy.coder": "the thread of entropy coding",
    "earshot.lab.demo.children": "runs other commands",
    "earshot.lab.demo.conversation": "two clients and a server, watched",
    "earshot.lab.demo.show": "shows a conversation",
    "earshot.lab.demo.live": "microphone to loudspeaker",
    "earshot.client.ui.display": "shows a call while it lasts",
    "earshot.client.ui.figures": "reads the clock",
    "earshot.client.ui.keyboard": "reads the terminal",
    "earshot.client.net.link": "the WebSocket of a call",
    "earshot.client.music.models": "the thread that decodes music",
    "earshot.lab.demo.pictures": "draws with matplotlib",
    "earshot.client.audio.talker": "the encoder's thread",
    "earshot.client.ui.view": "draws on the terminal",
}
"""Modules under no purity contract, and why."""

PROGRAMS = ("earshot.lab.training", "earshot.lab.evaluation")
"""Programs of their own beside the codec: they read files, count their time and show a bar."""

MAY_READ_ENVIRONMENT = {
    "earshot.codec.weights.download",  # where the cache is, and whether a mirror is set
    "earshot.codec.engine.choice",  # which kernels are forced
    "earshot.lab.training.ranks",  # what torchrun says
    "earshot.lab.loadtest.run",  # passed on to the server that it starts, with more
    "earshot.server.settings",
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
    commands = {
        "earshot.commands.bench",
        "earshot.commands.evaluate",
        "earshot.commands.files",
        "earshot.commands.export",
    }
    commands |= {
        "earshot.commands.train",
        "earshot.commands.train_lm",
        "earshot.commands.listen",
        "earshot.commands.bench_server",
    }
    for file in ("earshot.py", *(f"{name.replace('.', '/')}.py" for name in commands)):
        heavy = module_level_imports((ROOT / file).read_text()) - commands - {"earshot.codec.errors"}
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
