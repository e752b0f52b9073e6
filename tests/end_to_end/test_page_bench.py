"""`earshot bench page`: a real browser, the codec and a call, for a short time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.earshot_process import PATIENT_ENV
from tests.web.browser import CHROMIUM

COMMAND = [sys.executable, "-m", "earshot", "bench", "page", "--rounds", "1", "--seconds", "1", "--latency", "low"]


@pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium: apt-get install chromium")
def test_the_codec_is_timed_and_two_pages_talk(tmp_path: Path) -> None:
    options = ["--no-peer", "--json", str(tmp_path / "page.json")]
    done = subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=240, env=os.environ | PATIENT_ENV, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mouth to ear" in done.stdout
    assert "was not asked for" in done.stdout
    found = json.loads((tmp_path / "page.json").read_text())
    relaxed, simd = found["codecs"]
    assert (relaxed["name"], simd["name"], simd["codes_equal"]) == ("relaxed.wasm", "simd.wasm", 1.0)
    assert relaxed["encode_ms"] > 0
    assert found["calls"][0]["mouth_to_ear_ms"]["50"] > 20
    assert found["calls"][0]["load_ms"]["first"] > 0
    assert len(found["bounds"]) == 5
