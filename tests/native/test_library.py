"""Builds the engine as a C++ library without Python, and checks it under AddressSanitizer and
UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FLAGS = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"


@pytest.mark.timeout(600)
@pytest.mark.skipif(not shutil.which("cmake"), reason="the library is built by CMake: apt-get install cmake")
def test_the_library_builds_and_its_check_passes_under_sanitizers(tmp_path: Path) -> None:
    for command in (
        ["cmake", "-S", HERE, "-B", tmp_path, "-DCMAKE_BUILD_TYPE=None", f"-DCMAKE_CXX_FLAGS={FLAGS}"],
        ["cmake", "--build", tmp_path, "--parallel", "2"],
        ["ctest", "--test-dir", tmp_path, "--output-on-failure"],
    ):
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            said, _ = running.communicate()
        finally:
            with suppress(ProcessLookupError):  # compilers and checks that remain when a command times out
                os.killpg(running.pid, signal.SIGKILL)
        assert running.returncode == 0, said
