"""When a recording began, and what is said where there is no PulseAudio."""

from __future__ import annotations

import pytest
from rich.console import Console

from earshot.client.core.latency import STAGES
from earshot.codec.errors import UsageError
from earshot.lab.devices.latency import DeviceDelay, start_of
from earshot.lab.devices.show import table
from earshot.lab.devices.sound_server import SoundServer


def test_a_recording_began_when_its_promptest_chunk_says() -> None:
    late_us = (9_000, 2_000, 30_000)
    chunks = [(1_000_000 + 50_000 * (i + 1) + late_us[i], 1_200 * (i + 1)) for i in range(3)]
    assert start_of(chunks) == 1_002_000


def test_without_pulseaudio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UsageError, match="apt-get install pulseaudio"), SoundServer():
        pass


def test_a_table_for_80_columns() -> None:
    known = {"p50": 60.0, "p95": 70.0, "p99": 71.5}
    stages = dict.fromkeys(STAGES, known) | {"encode": None}
    console = Console(record=True, width=80)
    console.print(table(DeviceDelay([61.0, 62.0, 63.0], 4, stages, known, 0), "low"))
    said = console.export_text()
    assert [line.split("│")[2].strip() for line in said.splitlines() if "encode" in line or "by sound" in line] == [
        "-",
        "62.0",
    ]
