"""What is concluded from a conversation: was everything heard, and do both measures of delay
agree."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

from earshot.client.audio.portaudio import DeviceInfo
from earshot.client.core.latency import STAGES
from earshot.client.ui.view import ViewState
from earshot.codec.errors import AudioError, UsageError
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from earshot.codec.terminal import Terminal
from earshot.codec.weights.load import save_native
from earshot.lab import VOICES
from earshot.lab.children import ChildError
from earshot.lab.demo.conversation import DEMO, LEAD_S, Conversation, Direction, Plan, converse, spoken_file
from earshot.lab.demo.live import check_devices
from earshot.lab.demo.measure import compare
from earshot.lab.demo.show import disagreements, panels, report, shown, slowness, stages_table, summary


@pytest.fixture(scope="module")
def voice() -> Pcm:
    return soundfile.read(VOICES / "ada.flac", frames=96_000, dtype="float32")[0]


def figures(delay_ms: float) -> dict[str, Any]:
    """Returns a listener's report of a speaker whose every packet took so long, from 1 s before the
    talk to its end."""
    marks = {"p50": delay_ms, "p95": delay_ms, "p99": delay_ms}
    return {
        "codec_kbps": 6.0,
        "wire_kbps": 67.2,
        "frames": 450,
        "missing": 0,
        "underruns": 1,
        "mouth_to_ear_ms": marks,
        "stages_ms": {stage: {point: value / 8 for point, value in marks.items()} for stage in STAGES},
        "timeline": [[t, *[delay_ms / 8] * 8] for t in np.arange(1.0, 7.0, 0.02).tolist()],
    }


def direction(voice: Pcm, heard: Pcm, stamps_ms: float = 60.0, **changes: Any) -> Direction:
    ada, ben = replace(DEMO[0], uplink="pcm"), replace(DEMO[1], uplink="codes")
    return Direction(
        ada,
        ben,
        figures(stamps_ms) | changes,
        {"wire_kbps": 442.8},
        {"wire_kbps": 24.1},
        2.0,
        compare(voice, heard),
        voice,
        heard,
    )


def late(voice: Pcm, milliseconds: float) -> Pcm:
    return np.pad(voice, (round(milliseconds * 24), 2400))


def talk(*ways: Direction) -> Conversation:
    return Conversation((ways[0], ways[-1]), {"name": "lite", "digest": "0123456789abcdef"})


@pytest.mark.parametrize(
    ("delay_ms", "load", "changes", "said"),
    [
        (67, (4.0, 2), {}, []),
        (140, (4.0, 2), {}, ["140 ms from mouth to ear is long", "it is busy (4.0 programs", "2 processors"]),
        (140, (1.0, 2), {}, ["140 ms from mouth to ear is long", "latency.png shows"]),
        (60, (1.0, 2), {"latency": "low"}, ["41 ms are usual"]),
        (140, (4.0, 2), {"server": "wss://calls.example.org"}, []),
        (200, (4.0, 2), {"latency": "thrift"}, []),
    ],
    ids=["usual", "busy", "not busy", "low", "a server elsewhere", "nothing is known"],
)
def test_why_a_delay_is_long(
    voice: Pcm, delay_ms: float, load: tuple[float, int], changes: dict[str, Any], said: list[str]
) -> None:
    plan = replace(Plan(DEMO, Path("out")), **changes)
    notes = slowness(talk(direction(voice, late(voice, delay_ms), delay_ms)), plan, load)
    assert len(notes) == bool(said)
    assert all(part in note for note in notes for part in said)


def test_all_heard_and_agreed(voice: Pcm) -> None:
    way = direction(voice, late(voice, 60))
    assert way.faults() == []
    assert way.disagreement_ms == pytest.approx(0, abs=0.1)
    assert disagreements(talk(way)) == []


@pytest.mark.parametrize("wrong_ms", [-12.0, 12.0])
def test_time_stamps_that_are_wrong_are_found_out(voice: Pcm, wrong_ms: float) -> None:
    way = direction(voice, late(voice, 60), stamps_ms=60 + wrong_ms)
    assert way.disagreement_ms == pytest.approx(wrong_ms, abs=0.1)
    assert "12.0 ms apart: they do not agree" in disagreements(talk(way))[0]


def test_a_delay_that_changes_is_compared_second_by_second(voice: Pcm) -> None:
    """The delay is 40 ms, then 90 ms: the medians of both measures may differ, the differences do
    not."""
    heard = late(voice, 90)
    heard[: 48_000 + 960] = late(voice, 40)[: 48_000 + 960]
    way = direction(voice, heard)
    rows = [[t, *[(40 if t < 4.05 else 90) / 8] * 8] for t in np.arange(1.0, 7.0, 0.02).tolist()]
    way = replace(way, call=way.call | {"timeline": rows})
    assert way.disagreement_ms == pytest.approx(0, abs=3)


def test_what_was_not_heard_is_a_fault(voice: Pcm) -> None:
    half = late(voice, 60)
    half[48_000:] = 0
    assert "Ben did not hear all that Ada said: " in direction(voice, half).faults()[0]
    silence = np.zeros_like(voice)
    assert direction(voice, silence).faults() == ["Ben did not hear all that Ada said: 0% of the speech came through"]
    assert direction(voice, silence, frames=0).faults() == ["Ben did not hear anything of Ada"]
    way = direction(voice, silence, timeline=[], mouth_to_ear_ms=None)
    assert (way.disagreement_ms, way.percentiles_ms) == (None, {})


def test_report_and_tables_take_what_was_not_measured(voice: Pcm) -> None:
    way = direction(voice, np.zeros_like(voice), timeline=[], mouth_to_ear_ms=None, stages_ms={}, frames=0)
    values = json.loads(json.dumps(report(talk(way))))
    assert values["directions"][0]["correlation_latency_ms"] is None
    assert values["faults"]
    console = Console(width=120, record=True)
    console.print(summary(talk(way)), stages_table(way))
    assert "- / -" in console.export_text()


def test_report_has_the_documented_fields(voice: Pcm) -> None:
    values = report(talk(direction(voice, late(voice, 60))))
    first = values["directions"][0]
    assert (first["from"], first["to"], first["uplink"]) == ("Ada", "Ben", "pcm")
    assert first["mouth_to_ear_ms"] == {"p50": 60.0, "p95": 60.0, "p99": 60.0}
    assert first["correlation_latency_ms"] == pytest.approx(60, abs=0.1)
    assert {"codec_kbps", "wire_kbps", "underruns", "similarity"} <= set(first)
    assert set(values["stages_ms"]["Ada to Ben"]) == set(STAGES)
    assert values["model"]["name"] == "lite"


def test_panels_show_both_clients() -> None:
    status = ViewState("Ada", "demo", "ws://127.0.0.1:1", "connected", True, seconds=12.0).to_json()
    console = Console(width=120, record=True)
    console.print(panels([status, {}], 0.5, DEMO, "demo"))
    text = console.export_text()
    assert "Ada (you)" in text
    assert "Ben (you)" in text
    assert "50% of the talk" in text
    assert max(map(len, text.splitlines())) <= 120
    assert "q leave" not in text


def test_without_a_terminal_there_are_a_few_lines() -> None:
    console = Terminal(file=(said := io.StringIO()), width=200)
    with shown(console, DEMO, "demo") as show:
        for step in range(101):
            show([{}, {}], step / 100)
    assert [line[:8] for line in said.getvalue().splitlines() if "Ada" in line] == [
        "  0% Ada",
        " 25% Ada",
        " 50% Ada",
        " 75% Ada",
        "100% Ada",
    ]


def test_a_model_that_is_none_is_said_by_the_server(tmp_path: Path) -> None:
    with pytest.raises(ChildError, match=r"(?s)the server ended with status 1:.*no-such-model"):
        converse(Plan(DEMO, tmp_path, model="no-such-model", seconds=1))


def test_a_server_that_is_none_is_said_by_the_clients(tmp_path: Path, tiny_model: Model) -> None:
    save_native(tiny_model.network, tmp_path / "tiny.safetensors")
    plan = Plan(DEMO, tmp_path, server="ws://127.0.0.1:9", model=str(tmp_path / "tiny.safetensors"), seconds=1)
    with pytest.raises(ChildError, match=r"(?s)(Ada|Ben) ended with status 1:.*127\.0\.0\.1:9"):
        converse(plan)
    spoken, rate = soundfile.read(spoken_file(plan, DEMO[0]))
    assert spoken.size == rate * (LEAD_S + 1)


def test_no_time_is_no_talk(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more than 0 seconds"):
        converse(Plan(DEMO, tmp_path, seconds=0))


@pytest.mark.parametrize(
    ("inputs", "outputs", "missing"),
    [(0, 0, "microphone and no loudspeaker"), (0, 2, "microphone"), (1, 0, "loudspeaker")],
)
def test_without_a_sound_device_live_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, inputs: int, outputs: int, missing: str
) -> None:
    device = DeviceInfo(0, "card", "ALSA", inputs, outputs, 48_000.0, False, False)
    monkeypatch.setattr("earshot.lab.demo.live.list_devices", lambda: [device])
    with pytest.raises(AudioError, match=f"no {missing} that PortAudio can see.*apt install libportaudio2"):
        check_devices()


def test_with_devices_live_may_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    device = DeviceInfo(0, "card", "ALSA", 1, 2, 48_000.0, True, True)
    monkeypatch.setattr("earshot.lab.demo.live.list_devices", lambda: [device])
    check_devices()
