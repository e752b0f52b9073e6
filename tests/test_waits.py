"""What tests in real time know of a busy machine: how long threads wait for a processor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.waits import Waits

WORKS = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
while time.time() < float(sys.argv[2]):
    pass
"""


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this system tells of no waits")
def test_two_that_share_a_processor_wait() -> None:
    processor, began_s = min(os.sched_getaffinity(0)), time.time()
    with Waits() as waits:
        command = [sys.executable, "-c", WORKS, str(processor), str(began_s + 2)]
        for each in [subprocess.Popen(command) for _ in range(2)]:
            each.wait()
    ended_s = time.time()
    assert waits.longest_s(began_s, ended_s) > 0.3
    assert waits.longest_s(began_s - 2, began_s - 1) == 0
    assert waits.longest_s(ended_s + 1, ended_s + 2) == 0


def test_a_thread_that_is_gone_has_not_waited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tests.waits._descendants", lambda _: [tmp_path])
    monkeypatch.setattr("tests.waits._sounding", lambda _: [tmp_path / "gone"])
    began_s = time.time()
    with Waits() as waits:
        time.sleep(0.1)
    assert waits.longest_s(began_s, time.time()) == 0
