"""`earshot demo` and `earshot latency` as a user runs them, for a few seconds, with the weights
that come with Earshot.

How long sound takes is not asserted: it depends on what else the machine does.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import soundfile

from earshot.client.core.latency import STAGES
from tests.end_to_end.earshot_process import ATTEMPTS, PATIENT_ENV, run_earshot


@pytest.mark.timeout(300)
def test_demo_writes_what_was_said_and_heard(tmp_path: Path) -> None:
    for _ in range(ATTEMPTS):
        done = run_earshot("demo", "--seconds", "4", "--out", tmp_path, env=PATIENT_ENV)
        assert (tmp_path / "report.json").exists(), done.stdout + done.stderr
        report = json.loads((tmp_path / "report.json").read_text())
        assert done.returncode == (1 if report["faults"] else 0), done.stdout + done.stderr
        assert all(fault in " ".join(done.stdout.split()) for fault in report["faults"])
        if not report["faults"]:
            break
    assert [(way["from"], way["to"], way["uplink"]) for way in report["directions"]] == [
        ("Ada", "Ben", "codes"),  # tests run where the native engine is built, and encoding is easy
        ("Ben", "Ada", "codes"),
    ]
    for way in report["directions"]:
        assert way["codec_kbps"] == pytest.approx(6.0, abs=0.01)
        assert way["wire_kbps"] > way["codec_kbps"]
        assert way["similarity"] > 0.4  # another voice, or noise, stays under 0.3
        assert way["coverage"] > 0.9
        assert set(way["mouth_to_ear_ms"]) == {"p50", "p95", "p99"}
        assert way["correlation_latency_ms"] is not None
        assert way["disagreement_ms"] is not None
        assert isinstance(way["underruns"], int)
    assert [set(stages) for stages in report["stages_ms"].values()] == [set(STAGES)] * 2
    assert set(report["model"]) == {"name", "digest"}
    for name in ("spoken-heard.png", "latency.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    for name in ("heard-by-ada.wav", "heard-by-ben.wav"):
        assert soundfile.info(tmp_path / name).duration > 4
    assert "What was said and heard" in done.stdout


def test_a_demo_in_the_browser_opens_two_tabs_of_one_room(tmp_path: Path) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" >>{opened}\n')
    browser.chmod(0o755)
    done = run_earshot("demo", "--web", "--seconds", "1", env=PATIENT_ENV | {"BROWSER": f"{browser} %s"})
    assert done.returncode == 0, done.stderr
    first, second = opened.read_text().split()
    assert first == second
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#demo", first)
    assert first in " ".join(done.stdout.split())


def test_a_demo_that_cannot_be_says_why(tmp_path: Path) -> None:
    done = run_earshot("demo", "--seconds", "1", "--out", tmp_path, "--model", "no-such-model")
    assert done.returncode == 1
    assert "error: there is no model 'no-such-model'" in " ".join(done.stderr.split())


@pytest.mark.timeout(300)
def test_latency_measures_every_stage_both_ways(tmp_path: Path) -> None:
    for _ in range(ATTEMPTS):
        done = run_earshot("latency", "--seconds", "3", "--uplink", "codes", "--out", tmp_path, env=PATIENT_ENV)
        assert (tmp_path / "report.json").exists(), done.stdout + done.stderr
        measured = re.findall(r"(?m)^by time stamps", done.stdout)
        if len(measured) == 2:
            break
    report = json.loads((tmp_path / "report.json").read_text())
    assert [way["uplink"] for way in report["directions"]] == ["codes", "codes"]
    assert (tmp_path / "latency.png").exists()
    for stage in (*STAGES, "mouth to ear"):
        assert done.stdout.count(stage) >= 2
    assert len(measured) == 2, done.stdout
