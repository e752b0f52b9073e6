"""What a call looks like in a terminal: a pure function turns a state into something that rich can
draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from earshot.protocol.text import MAX_SHOWN, clean

CallState = Literal["connecting", "connected", "reconnecting", "left"]

QUIETEST_DB = -60.0
METER_WIDTH = 24
KEYS = "m mute   + - rate   r record   ? keys   q leave"
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
    volume_db: float = 0.0
    """By how much this client makes the peer louder."""


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
    max_kbps: float = 12.0
    """The most that this client takes of each speaker."""
    dropped: int = 0
    """Messages of this client that could not be sent in time, and blocks that the microphone
    lost."""
    loudspeaker_dry: int = 0
    """How often the loudspeaker had nothing to play in time."""
    output_file: str = ""
    """The file that is written in the place of a loudspeaker, if one is."""
    push_to_talk: bool = False
    chosen: int = 0
    """Whose volume the keys change: the number of a speaker from 1 on, 0 for nobody."""
    help: Sequence[str] = ()
    """What the keys do, where that was asked for."""
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


def _kbps(codec: str, wire: float, slash: str = " / ") -> str:
    return f"{codec}{slash}{wire:.1f}"


def _sent(state: ViewState) -> str:
    return "PCM" if state.uplink == "pcm" else f"{state.codec_kbps:.1f}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"


_COLOURS = {"connecting": "yellow", "connected": "green", "reconnecting": "yellow", "left": "dim"}


class _Layout(NamedTuple):
    """How the table fits a width: nothing in it is cut but names, which end in an ellipsis then."""

    from_width: int
    who: int
    level: int
    headings: tuple[str, str, str, str, str]
    """Of the columns with figures; "" leaves a column out."""
    slash: str


_LAYOUTS = (
    _Layout(100, 24, METER_WIDTH, ("codec / wire kbps", "mouth to ear", "buffer", "underruns", "lost"), " / "),
    _Layout(74, 18, 16, ("codec/wire\nkbps", "mouth\nto ear", "buffer", "under-\nruns", "lost"), "/"),
    _Layout(0, 15, 9, ("codec/wire\nkbps", "mouth\nto ear", "", "under-\nruns", "lost"), "/"),
)


class _People:
    """The table of all who are in the room. It is designed for 80 columns, and fits others."""

    def __init__(self, state: ViewState) -> None:
        self._state = state

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._table(next(layout for layout in _LAYOUTS if options.max_width >= layout.from_width))

    def _table(self, layout: _Layout) -> Table:
        state = self._state
        table = Table(expand=True, box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("who", no_wrap=True, min_width=layout.who, max_width=layout.who)
        table.add_column("level", no_wrap=True, min_width=layout.level)
        for title, width in zip(layout.headings, (10, 7, 7, 6, 4), strict=True):
            if title:
                table.add_column(title, justify="right", no_wrap=True, min_width=width)

        def add(who: Text, bar: Text, *figures: str) -> None:
            table.add_row(who, bar, *(cell for title, cell in zip(layout.headings, figures, strict=True) if title))

        bar = Text("muted", "bold red") if state.muted else meter(state.level_db, layout.level)
        rates = _kbps(_sent(state), state.wire_kbps, layout.slash)
        add(_who(state.name, layout.who, " (you)"), bar, rates, "", "", "", str(state.dropped))
        for number, speaker in enumerate(state.speakers, 1):
            bar = Text("muted", "dim") if speaker.muted else meter(speaker.level_db, layout.level)
            if not speaker.decodable:
                bar = Text("no model", "yellow")
            who = _who(speaker.name, layout.who, number=number if state.chosen else 0)
            if number == state.chosen:
                who.stylize("reverse")
            add(
                who,
                bar,
                _kbps(f"{speaker.codec_kbps:.1f}", speaker.wire_kbps, layout.slash),
                _milliseconds(speaker.mouth_to_ear_ms),
                _milliseconds(speaker.buffer_ms),
                str(speaker.underruns),
                str(speaker.missing),
            )
        return table


def _who(name: str, width: int, more: str = "", number: int = 0) -> Text:
    """Returns a name that fits a column, with what is said behind it."""
    text = _text(f"{number} {name}" if number else name)
    text.truncate(width - len(more), overflow="ellipsis")
    return text.append(more)


def render(state: ViewState) -> RenderableType:
    """Returns the view of one moment."""
    sending = "listening" if state.uplink == "none" else f"sending {state.uplink} at {state.send_kbps:g} kbps"
    if state.codec_latency_ms >= NOTABLE_MS:
        sending += f", {_milliseconds(state.codec_latency_ms)} late by its windows"
    minutes, seconds = divmod(int(state.seconds), 60)
    line = Text.assemble(
        (state.state, _COLOURS[state.state]),
        f"  {minutes}:{seconds:02d}  {sending}, {state.latency}",
        f"  round trip {_milliseconds(state.round_trip_ms)}",
        f"  reconnects {state.reconnects}" if state.reconnects else "",
    )
    parts: list[RenderableType] = [_People(state)]
    if not state.speakers:
        parts.append(Text("nobody else is here yet", "dim"))
    up = _kbps(_sent(state), state.wire_kbps)
    down = f"{_kbps(f'{state.heard_codec_kbps:.1f}', state.heard_wire_kbps)} down, up to {state.max_kbps:g} a speaker"
    parts += [Text(), line, Text(f"codec / wire kbps: {up} up, {down}")]
    parts += [_text(note, "dim") for note in [*_notes(state), *_mine(state)]]
    if state.recording or state.recording_said:
        parts.append(_text(_recording(state), "bold red" if state.recording else "yellow"))
    if state.detail:
        parts.append(_text(state.detail, "yellow"))
    if state.help:
        parts += [Text(), *(Text(each) for each in state.help)]
    heading = _text(f"Earshot: {state.room} at {state.server}")
    return Panel(Group(*parts), title=heading, subtitle=Text(KEYS))


def _mine(state: ViewState) -> list[str]:
    """Returns notes about this client's own loudspeaker, keys and volumes."""
    notes = []
    if dry := state.loudspeaker_dry:
        times = "once" if dry == 1 else f"{dry} times"
        notes.append(
            f"{state.output_file} got silence {times}, when this machine was late"
            if state.output_file
            else f"the loudspeaker ran dry {times}"
        )
    if state.push_to_talk:
        notes.append("push to talk: hold the space bar, p ends it")
    for number, speaker in enumerate(state.speakers, 1):
        if number == state.chosen or speaker.volume_db:
            keys = ": , softer, . louder" if number == state.chosen else ""
            notes.append(f"volume of {speaker.name} {speaker.volume_db:+g} dB{keys}")
    return notes


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
    mine = "muted" if state.muted else f"{state.level_db:.0f} dB, {_kbps(_sent(state), state.wire_kbps)} kbps"
    heard = f"heard {_kbps(f'{state.heard_codec_kbps:.1f}', state.heard_wire_kbps)} kbps"
    parts = [f"{state.seconds:.0f} s {state.state}", f"you {mine}", *([heard] if speakers else []), *speakers]
    parts += [*_notes(state), *_mine(state)]
    if state.recording or state.recording_said:
        parts.insert(1, _recording(state))
    parts += [state.detail] if state.detail else []
    return " | ".join(clean(part, MAX_SHOWN) for part in parts)
