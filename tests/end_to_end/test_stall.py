"""A server that really stands still for a moment in the middle of a call."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from earshot.lab import VOICES
from tests.end_to_end.earshot_process import EarshotCall, EarshotServer, attempt, hears

STALL_S = 0.25
BACK_AFTER_S, WITHIN_MS = 2.0, 20.0
"""What a stall of 0.25 s adds to the delay is gone after 2 s. tests/client/core/test_replay.py
asserts this of recorded calls, where no other work of the machine can spoil it."""


def delays(ear: EarshotCall, seconds: float) -> list[float]:
    """Returns what the jitter buffer adds to the delay, ten times a second."""
    found = []
    for _ in range(round(seconds * 10)):
        found.append(float(ear.status["speakers"][0]["buffer_ms"]))
        time.sleep(0.1)
    return found


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP")
def test_a_call_is_back_soon_after_a_stall(tmp_path: Path) -> None:
    with EarshotServer(tmp_path, "default", env={}) as server:
        common = ("den", "--server", server.url, "--latency", "low")
        mouth = EarshotCall(
            *(*common, "--name", "mouth", "--input", VOICES / "ada.flac", "--loop", "--output", "none"),
            report=tmp_path / "mouth.json",
        )
        ear = EarshotCall(
            *common, "--name", "ear", "--input", "none", "--output", tmp_path / "ear.wav", report=tmp_path / "ear.json"
        )
        with mouth, ear:
            ear.wait_for(hears("mouth"))
            time.sleep(2)

            def once() -> None:
                before = float(np.median(delays(ear, 1)))
                server.stand_still(STALL_S)
                after = delays(ear, BACK_AFTER_S + 1)
                assert max(after) > before + 100  # it was noticed
                assert np.median(after[round(BACK_AFTER_S * 10) :]) < before + WITHIN_MS

            attempt(once)
            report = ear.leave()
    (speaker,) = report["speakers"].values()
    assert speaker["missing"] == 0
