"""What a call looks like in a terminal: a pure function turns a state into something that rich can
draw."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from earshot.protocol.text import MAX_SHOWN, clean

CallState = Literal["connecting", "connected", "reconnecting", "left"]

QUIETEST_DB = -60.0
METER_WIDTH = 24
KEYS = "m mute   + - rate   l latency   r record   q leave"
RECORDED = "RECORDING: the server records what everybody here says"
NOTABLE_MS = 100.0
"""A delay by coding from which on the view mentions it."""


@dataclass(frozen=True)
class SpeakerState:
    """Another peer, as it is heard here. Levels are RMS in dB of full scale. None is what is not
    known yet."""

    name: str
    level_db: float = QUIETEST_DB
    muted: bool = False
    codec_kbps: float = 0.0
    wire_kbps: float = 0.0
    mouth_to_ear_ms: float | None = None
    buffer_ms: float = 0.0
    underruns: int = 0
    missing: int = 0
    music: str = ""
    """Name of the model that it plays music with, "" for a peer that talks."""
    decodable: bool = True
    """Whether this client has that model."""
    codec_latency_ms: float = 0.0
    """The part of `mouth_to_ear_ms` that coding alone makes: a frame, or a window."""


@dataclass(frozen=True)
class EntropyState:
    """What entropy coding makes of the codes of all speakers, and what it costs. Rates are without
    headers."""

    asked: bool = False
    on: bool = False
    sent_plain_kbps: float = 0.0
    sent_kbps: float = 0.0
    heard_plain_kbps: float = 0.0
    heard_kbps: float = 0.0
    cpu_share: float = 0.0
    """The part of one core that it takes."""


@dataclass(frozen=True)
class ViewState:
    """Everything that the view shows."""

    name: str
    room: str
    server: str
    state: CallState = "connecting"
    connected: bool = False
    detail: str = ""
    """A line about what goes on, for example why the connection was lost."""
    uplink: str = "pcm"
    send_kbps: float = 6.0
    """The rate that was asked for. `codec_kbps` and `wire_kbps` are measured over the last
    seconds."""
    muted: bool = False
    level_db: float = QUIETEST_DB
    codec_kbps: float = 0.0
    wire_kbps: float = 0.0
    heard_codec_kbps: float = 0.0
    """All that comes, by the second. `heard_wire_kbps` and `wire_kbps` include control messages."""
    heard_wire_kbps: float = 0.0
    latency: str = "balanced"
    round_trip_ms: float | None = None
    seconds: float = 0.0
    reconnects: int = 0
    codec_latency_ms: float = 0.0
    """By how much coding delays what is said here."""
    dropped: int = 0
    """Messages of this client that could not be sent in time, and blocks that the microphone or
    loudspeaker lost."""
    recording: bool = False
    recording_said: str = ""
    """A line about why the room is recorded, or why no longer."""
    speakers: list[SpeakerState] = field(default_factory=list)
    entropy: EntropyState = EntropyState()

    def to_json(self) -> dict[str, Any]:
        """Returns the state as `earshot call --status-json` writes it."""
        return asdict(self)


def decibels(level: float) -> float:
    """Returns an RMS level (1 is full scale) in dB, at least QUIETEST_DB."""
    return max(20 * math.log10(level), QUIETEST_DB) if level > 0 else QUIETEST_DB


def meter(level_db: float, width: int = METER_WIDTH) -> Text:
    """Returns a bar for a level from QUIETEST_DB to 0 dB."""
    filled = round(width * min(max(1 - level_db / QUIETEST_DB, 0.0), 1.0))
    colour = "red" if level_db > -3 else "yellow" if level_db > -12 else "green"
    return Text.assemble(("█" * filled, colour), ("·" * (width - filled), "dim"))


def _kbps(codec: float, wire: float) -> str:
    return f"{codec:.1f} / {wire:.1f}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"


_COLOURS = {"connecting": "yellow", "connected": "green", "reconnecting": "yellow", "left": "dim"}


def render(state: ViewState) -> RenderableType:
    """Returns the view of one moment."""
    table = Table(expand=True, box=None, pad_edge=False)
    table.add_column("who", no_wrap=True, max_width=20)
    table.add_column("level", no_wrap=True, min_width=METER_WIDTH)
    for title in ("codec / wire kbps", "mouth to ear", "buffer", "underruns", "lost"):
        table.add_column(title, justify="right", no_wrap=True)
    me = _text(f"{state.name} (you)")
    bar = Text("muted", "bold red") if state.muted else meter(state.level_db)
    rates = f"PCM / {state.wire_kbps:.1f}" if state.uplink == "pcm" else _kbps(state.codec_kbps, state.wire_kbps)
    sending = "listening" if state.uplink == "none" else f"sending {state.uplink} at {state.send_kbps:g} kbps"
    if state.codec_latency_ms >= NOTABLE_MS:
        sending += f", {_milliseconds(state.codec_latency_ms)} late by its windows"
    table.add_row(me, bar, rates, "", "", "", str(state.dropped))
    for speaker in state.speakers:
        bar = Text("muted", "dim") if speaker.muted else meter(speaker.level_db)
        if not speaker.decodable:
            bar = Text("music, not decodable", "yellow")
        table.add_row(
            _text(speaker.name),
            bar,
            _kbps(speaker.codec_kbps, speaker.wire_kbps),
            _milliseconds(speaker.mouth_to_ear_ms),
            _milliseconds(speaker.buffer_ms),
            str(speaker.underruns),
            str(speaker.missing),
        )
    if not state.speakers:
        table.add_row(Text("nobody else is here yet", "dim"))
    minutes, seconds = divmod(int(state.seconds), 60)
    line = Text.assemble(
        (state.state, _COLOURS[state.state]),
        f"   {minutes}:{seconds:02d}   {sending}, {state.latency}",
        f"   round trip {_milliseconds(state.round_trip_ms)}",
        f"   reconnects {state.reconnects}" if state.reconnects else "",
    )
    up = f"PCM / {state.wire_kbps:.1f}" if state.uplink == "pcm" else _kbps(state.codec_kbps, state.wire_kbps)
    both = Text(f"codec / wire kbps: {up} up, {_kbps(state.heard_codec_kbps, state.heard_wire_kbps)} down")
    parts: list[RenderableType] = [table, Text(), line, both, *(_text(note, "dim") for note in _notes(state))]
    if state.recording or state.recording_said:
        parts.append(_text(_recording(state), "bold red" if state.recording else "yellow"))
    if state.detail:
        parts.append(_text(state.detail, "yellow"))
    heading = _text(f"Earshot: {state.room} at {state.server}")
    return Panel(Group(*parts), title=heading, subtitle=Text(KEYS))


def _text(said: str, style: str = "") -> Text:
    """Returns words that others may have chosen, without what a terminal would obey."""
    return Text(clean(said, MAX_SHOWN), style)


def _recording(state: ViewState) -> str:
    if not state.recording:
        return state.recording_said
    return f"● {RECORDED}" + (f" ({state.recording_said})" if state.recording_said else "")


def _entropy(entropy: EntropyState) -> str:
    if not entropy.on:
        return "entropy coding: not with this server"
    ways = [
        f"{name} {coded:.1f} of {plain:.1f} kbps ({coded / plain - 1:+.0%})"
        for name, coded, plain in (
            ("sent", entropy.sent_kbps, entropy.sent_plain_kbps),
            ("heard", entropy.heard_kbps, entropy.heard_plain_kbps),
        )
        if plain
    ]
    return f"entropy coding: {', '.join(ways) or 'nothing yet'}; {entropy.cpu_share:.1%} of a core"


def _notes(state: ViewState) -> list[str]:
    """Returns notes about entropy coding and about peers that play music."""
    notes = [_entropy(state.entropy)] if state.entropy.asked and state.connected else []
    for speaker in state.speakers:
        if not speaker.decodable:
            notes.append(
                f"{speaker.name} plays music, not decodable here: start with --also {speaker.music} or its path"
            )
        elif speaker.music:
            late = _milliseconds(speaker.codec_latency_ms)
            notes.append(f"{speaker.name} plays music ({speaker.music}), {late} late by its windows")
    return notes


def plain_line(state: ViewState) -> str:
    """Returns the view as one line, for an output that is no terminal."""
    speakers = [
        f"{speaker.name} {speaker.level_db:.0f} dB, {_milliseconds(speaker.mouth_to_ear_ms)} old, "
        f"{speaker.underruns} underruns"
        for speaker in state.speakers
    ]
    mine = "muted" if state.muted else f"{state.level_db:.0f} dB, {_kbps(state.codec_kbps, state.wire_kbps)} kbps"
    heard = f"heard {_kbps(state.heard_codec_kbps, state.heard_wire_kbps)} kbps"
    parts = [f"{state.seconds:.0f} s {state.state}", f"you {mine}", *([heard] if speakers else []), *speakers]
    parts += _notes(state)
    if state.recording or state.recording_said:
        parts.insert(1, _recording(state))
    parts += [state.detail] if state.detail else []
    return " | ".join(clean(part, MAX_SHOWN) for part in parts)
