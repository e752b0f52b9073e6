"""What two real calls take on the wire."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.end_to_end.earshot_process import EarshotCall, EarshotServer, attempt

SILENT_KBPS = 2.0
SPOKEN_KBPS = 24.0
"""At 6 kbps, three frames a message."""


def noise(seconds: float, level_db: float) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(round(seconds * 24_000)) * 10 ** (level_db / 20)


@pytest.mark.timeout(300)
def test_speech_and_silence_cost_what_they_should(tmp_path: Path) -> None:
    """By the call's own count, all headers and control messages included, both ways."""
    spoken = np.concatenate([noise(1, -60), noise(9, -20), noise(60, -60)])
    soundfile.write(tmp_path / "spoken.wav", spoken, 24_000)

    def once() -> None:
        with EarshotServer(tmp_path, "default") as server:
            both = [
                EarshotCall(
                    *("den", "--server", server.url, "--name", name, "--uplink", "codes"),
                    *("--input", tmp_path / "spoken.wav", "--output", tmp_path / f"{name}.wav"),
                    report=tmp_path / f"{name}.json",
                )
                for name in ("ada", "ben")
            ]
            with both[0], both[1]:
                for begin, most in ((5.0, SPOKEN_KBPS), (13.0, SILENT_KBPS)):
                    for each in both:
                        each.wait_for(lambda status, begin=begin: status["seconds"] > begin)
                    means = mean_kbps(both, 3.0 if most > SILENT_KBPS else 5.0)
                    assert all(0.2 < kbps < most for kbps in means), means
                reports = [each.leave() for each in both]
        for report in reports:
            (speaker,) = report["speakers"].values()
            assert report["sent"]["silent_frames"] > 75 * 4
            assert speaker["missing"] == 0
            assert speaker["codec_kbps"] == pytest.approx(6.0, rel=0.03)

    attempt(once)


def mean_kbps(calls: list[EarshotCall], seconds: float) -> list[float]:
    """Returns the rates up and down of each call, by what they showed ten times a second."""
    seen: list[list[float]] = []
    for _ in range(round(seconds * 10)):
        seen.append([each.status[way] for each in calls for way in ("wire_kbps", "heard_wire_kbps")])
        time.sleep(0.1)
    return [float(value) for value in np.mean(seen, axis=0)]
