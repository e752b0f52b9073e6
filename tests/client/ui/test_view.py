"""The view of a call, drawn to text."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from earshot.client.ui.view import (
    METER_WIDTH,
    QUIETEST_DB,
    EntropyState,
    SpeakerState,
    ViewState,
    decibels,
    meter,
    plain_line,
    render,
)


def drawn(state: ViewState, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render(state))
    text = console.file.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    return text


def row(text: str, name: str) -> str:
    (line,) = [line for line in text.splitlines() if line.lstrip("│ ").startswith(name)]
    return line


def test_everything_of_a_call_is_shown() -> None:
    text = drawn(
        ViewState(
            name="ada",
            room="den",
            server="ws://host:1",
            state="connected",
            connected=True,
            uplink="codes",
            level_db=-30.0,
            codec_kbps=6.0,
            wire_kbps=64.8,
            round_trip_ms=12.4,
            seconds=83.2,
            reconnects=2,
            dropped=7,
            speakers=[SpeakerState("ben", -15.0, False, 3.0, 61.0, 71.6, 31.2, 4, 5), SpeakerState("cyd", muted=True)],
        )
    )
    assert "den at ws://host:1" in text
    assert row(text, "ada (you)").split()[-4:-1] == ["/", "64.8", "7"]
    assert row(text, "ada (you)").count("█") == METER_WIDTH // 2
    ben = row(text, "ben")
    for shown in ("3.0 / 61.0", "72 ms", "31 ms"):
        assert shown in ben
    assert ben.split()[-3:-1] == ["4", "5"]
    assert "muted" in row(text, "cyd")
    for shown in ("connected", "1:23", "codes at 6 kbps", "round trip 12 ms", "reconnects 2", "m mute", "q leave"):
        assert shown in text


def test_what_entropy_coding_makes_is_shown() -> None:
    about = {"name": "ada", "room": "den", "server": "s", "connected": True}
    on = ViewState(**about, entropy=EntropyState(True, True, 3.0, 2.0, 6.0, 3.9, 0.047))
    said = "entropy coding: sent 2.0 of 3.0 kbps (-33%), heard 3.9 of 6.0 kbps (-35%); 4.7% of a core"
    assert said in drawn(on)
    assert said in plain_line(on)
    assert on.to_json()["entropy"]["heard_kbps"] == 3.9
    assert "nothing yet; 0.0% of a core" in drawn(ViewState(**about, entropy=EntropyState(True, True)))
    assert "entropy coding: not with this server" in drawn(ViewState(**about, entropy=EntropyState(True)))
    assert "entropy" not in drawn(ViewState(**about))


def test_an_empty_room_and_why_the_connection_was_lost() -> None:
    text = drawn(ViewState(name="ada", room="den", server="s", state="reconnecting", detail="gone; trying again"))
    assert "nobody else is here yet" in text
    assert "gone; trying again" in text
    assert "reconnecting" in text


def test_names_are_text_and_nothing_else() -> None:
    state = ViewState(name="[bold]", room="den", server="[red]x", speakers=[SpeakerState("[/] [blink]me[/blink]")])
    text = drawn(state)
    assert "[bold] (you)" in text
    assert "[red]x" in text
    assert "[/] [blink]me[/blin" in text


def test_muted_instead_of_a_level() -> None:
    assert "muted" in row(drawn(ViewState(name="ada", room="r", server="s", muted=True)), "ada")


@pytest.mark.parametrize(("level", "filled"), [(-200.0, 0), (QUIETEST_DB, 0), (0.0, METER_WIDTH), (6.0, METER_WIDTH)])
def test_meter_stays_within_its_width(level: float, filled: int) -> None:
    assert meter(level).plain == "█" * filled + "·" * (METER_WIDTH - filled)


def test_decibels() -> None:
    assert decibels(1.0) == 0
    assert decibels(0.1) == pytest.approx(-20)
    assert decibels(0.0) == decibels(1e-9) == QUIETEST_DB


def test_plain_line_and_json_carry_the_same() -> None:
    state = ViewState(name="ada", room="den", server="s", speakers=[SpeakerState("ben", -15.0, mouth_to_ear_ms=72.0)])
    assert "ben -15 dB, 72 ms old, 0 underruns" in plain_line(state)
    told = json.loads(json.dumps(state.to_json()))
    assert told["speakers"][0]["name"] == "ben"
    assert told["speakers"][0]["mouth_to_ear_ms"] == 72.0
    assert told["connected"] is False


def test_a_recording_is_not_overlooked() -> None:
    state = ViewState(name="ada", room="den", server="s", recording=True, recording_said="ben began it")
    for text in (drawn(state), plain_line(state)):
        assert "RECORDING: the server records what everybody here says (ben began it)" in text
    over = ViewState(name="ada", room="den", server="s", recording_said="not recorded: ben ended it")
    for text in (drawn(over), plain_line(over)):
        assert "not recorded: ben ended it" in text
        assert "RECORDING" not in text
    assert "ECORD" not in plain_line(ViewState(name="ada", room="den", server="s"))


def test_how_late_music_is_and_what_to_do_without_its_model() -> None:
    plays = SpeakerState("dj", music="encodec_48khz", codec_latency_ms=1000.0, mouth_to_ear_ms=1240.0)
    lacks = SpeakerState("eve", music="other_48khz", decodable=False)
    state = ViewState(name="ada", room="den", server="s", codec_latency_ms=1000.0, speakers=[plays, lacks])
    for text in (" ".join(drawn(state).split()), plain_line(state)):
        assert "dj plays music (encodec_48khz), 1000 ms late by its windows" in text
        assert "eve plays music, not decodable here: start with --also other_48khz or its path" in text
    assert "sending pcm at 6 kbps, 1000 ms late by its windows" in drawn(state)
    assert "1240 ms" in row(drawn(state), "dj  ")
    assert "late by its windows" not in drawn(ViewState(name="a", room="d", server="s", codec_latency_ms=13.3))


@pytest.mark.parametrize("said", ["\x1b]0;owned\x07", "a\u202eb\u2066", "\ud800", "\x9b2J", "x\u2028y"])
def test_what_others_say_cannot_command_the_terminal(said: str) -> None:
    state = ViewState(
        "me" + said,
        "den" + said,
        "ws://h" + said,
        detail=said,
        recording=True,
        recording_said=said,
        speakers=[SpeakerState("you" + said, music="m" + said, decodable=False)],
    )
    for shown in (drawn(state), plain_line(state)):
        assert not set(shown) & set("\x1b\x07\u202e\u2066\ud800\x9b\u2028")
    assert len(plain_line(ViewState("me", "den", "s", detail="x" * 10_000))) < 1000
