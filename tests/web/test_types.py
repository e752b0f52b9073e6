"""The page's JavaScript is checked by TypeScript, which the test set-up installs
(scripts/install)."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.web.node import node

HERE = Path(__file__).parent
INSTALLED = HERE.parents[1] / ".venv" / "typescript" / "node_modules" / "typescript" / "bin" / "tsc"


def compiler() -> Sequence[str]:
    """Returns the command of TypeScript: that of the test set-up, or one on the path. Skips the
    test where there is none."""
    if INSTALLED.is_file():
        return [node(), str(INSTALLED)]
    found = shutil.which("tsc")
    if found is None:
        pytest.skip("there is no TypeScript: make test installs it where npm finds a network")
    return [found]


def check(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*compiler(), "-p", project], capture_output=True, text=True, check=False)


def test_types_hold() -> None:
    done = check(HERE)
    assert done.returncode == 0, done.stdout


def test_a_wrong_type_is_found(tmp_path: Path) -> None:
    """So that the check is known to look at the page's comments."""
    options = json.loads((HERE / "tsconfig.json").read_text("utf-8"))["compilerOptions"]
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["*.js"]}))
    (tmp_path / "wrong.js").write_text("/** @param {number} x */\nexport const half = (x) => x / 2;\nhalf('one');\n")
    done = check(tmp_path)
    assert done.returncode != 0
    assert "wrong.js(3,6)" in done.stdout
