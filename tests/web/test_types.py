"""The page's JavaScript is checked: by TypeScript, where that is installed (npm install -g
typescript)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.skipif(not shutil.which("tsc"), reason="there is no tsc: npm install -g typescript")
def test_types_hold() -> None:
    done = subprocess.run(
        [str(shutil.which("tsc")), "-p", Path(__file__).parent], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
