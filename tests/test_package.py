"""A wheel contains every file that git tracks in the packages, except the C++ and its build files,
and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("codec", "protocol", "recording", "server", "client", "lab", "web")
"""Folders that are installed below `earshot`."""
NOT_INSTALLED = (".cpp", ".h", "CMakeLists.txt", "flags.txt")
COMPILED_WHEN_USED = "earshot/lab/training/fast/"


def tracked(*paths: str) -> set[str]:
    done = subprocess.run(["git", "ls-files", "-z", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split("\0") if name}


@pytest.mark.skipif(not shutil.which("git") or not (ROOT / ".git").exists(), reason="git lists the files")
def test_a_wheel_has_every_file_of_the_packages_and_no_sources_of_the_engine(tmp_path: Path) -> None:
    library = tmp_path / "library"
    command = ["setup.py", "--quiet", "egg_info", "--egg-base", tmp_path, "build_py", "--build-lib", library]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {str(file.relative_to(library)) for file in library.rglob("*") if file.is_file()}
    files = {f"earshot/{name}" for name in tracked(*PACKAGES)} | tracked("earshot")
    expected = {name for name in files if not name.endswith(NOT_INSTALLED) or name.startswith(COMPILED_WHEN_USED)}
    assert sorted(expected - found) == [], "name them in [tool.setuptools.package-data] of pyproject.toml"
    assert sorted(found - expected) == [], "not tracked by git, or sources: see MANIFEST.in and exclude-package-data"
    data = {"lab/voices/ada.flac", "codec/pretrained/default.safetensors", "lab/training/presets/lite.toml"}
    assert {f"earshot/{name}" for name in data} <= found


@pytest.mark.skipif(not shutil.which("git") or not (ROOT / ".git").exists(), reason="git lists the files")
def test_a_source_distribution_has_what_building_needs(tmp_path: Path) -> None:
    command = ["setup.py", "--quiet", "egg_info", "--egg-base", tmp_path]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (listing,) = tmp_path.glob("*.egg-info/SOURCES.txt")
    needed = tracked("codec/engine/native", "pyproject.toml", "setup.py", "README.md", "LICENSE")
    assert sorted(needed - set(listing.read_text().split("\n"))) == [], "name them in MANIFEST.in"
