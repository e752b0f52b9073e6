"""The engine as a C++ library without Python, under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FLAGS = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"


@pytest.mark.timeout(300)
@pytest.mark.skipif(not shutil.which("cmake"), reason="the library is built by CMake: apt-get install cmake")
def test_the_library_builds_and_its_check_passes_under_sanitizers(tmp_path: Path) -> None:
    for command in (
        ["cmake", "-S", HERE, "-B", tmp_path, "-DCMAKE_BUILD_TYPE=None", f"-DCMAKE_CXX_FLAGS={FLAGS}"],
        ["cmake", "--build", tmp_path, "--parallel"],
        ["ctest", "--test-dir", tmp_path, "--output-on-failure"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
