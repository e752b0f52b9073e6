"""Runs the page's JavaScript in node, from pytest."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "web"
PATIENCE_S = 90.0


def node() -> str:
    """Returns the newest node of this machine: the one that playwright brings, or one on the path.
    Skips the test where there is none."""
    try:
        from playwright._impl._driver import compute_driver_executable
    except ImportError:
        own = None
    else:
        executable = compute_driver_executable()
        own = executable[0] if isinstance(executable, tuple) else executable
    found = own if own and Path(own).is_file() else shutil.which("node")
    if found is None:
        pytest.skip("there is no node: pip install playwright, or apt-get install nodejs")
    return str(found)


def run_js(script: str, *arguments: str | Path, data: Any = None) -> Any:
    """Runs a script of this folder with `data` as JSON on its standard input. Returns what it
    prints, which is JSON."""
    command = [node(), str(HERE / script), *map(str, arguments)]
    done = subprocess.run(
        command, input=json.dumps(data), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout)
