"""`earshot bench server`: a real server and real speakers, few and for a short time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from earshot.codec.weights.load import save_native
from tests.end_to_end.earshot_process import PATIENT_ENV
from tests.peers import tiny_model

COMMAND = [sys.executable, "-m", "earshot", "bench", "server"]
UNHURRIED = PATIENT_ENV | {"EARSHOT_WORKER_NICE": "5"}
"""For the server that the command starts: what it can do beside a machine's other work is not what
is tested."""


@pytest.mark.timeout(300)
def test_eight_speakers_are_all_heard_and_nothing_is_lost(tmp_path: Path) -> None:
    save_native(tiny_model().network, tmp_path / "tiny.safetensors")
    files = {"--json": tmp_path / "load.json", "--png": tmp_path / "load.png"}
    options = ["--model", str(tmp_path / "tiny.safetensors"), "--from", "8", "--to", "8", "--seconds", "3"]
    options += [str(part) for pair in files.items() for part in pair]
    done = subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=240, env=os.environ | UNHURRIED, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "speakers at once" in done.stdout
    found = json.loads(files["--json"].read_text())
    assert (found["model"], found["kbps"], [row["speakers"] for row in found["rows"]]) == ("tiny", 6.0, [8])
    row = found["rows"][0]
    assert row["lost"] == 0
    assert row["closed"] == row["refused"] == ""
    assert row["heard"] > 8 * 75 * 2
    assert row["added_p99"] > 0
    assert row["batch_mean"] >= 1
    assert row["server_cpu"] > 0
    assert row["slack_p50"] is not None
    assert files["--png"].stat().st_size > 5000


def test_only_servers_of_this_machine_are_tested() -> None:
    for url in ("ws://example.org:8765", "wss://127.0.0.1:8765", "http://127.0.0.1", "ws://127.0.0.1.example.org"):
        done = subprocess.run([*COMMAND, "--host-url", url], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1, url
        assert "for a server of this machine" in " ".join(done.stderr.split())
