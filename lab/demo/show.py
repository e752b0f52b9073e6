"""Shows a conversation while it lasts, and then what was measured of it: `earshot demo` and
`earshot latency`."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from earshot.client.core.latency import STAGES
from earshot.client.ui.view import EntropyState, SpeakerState, ViewState, plain_line, render
from earshot.codec.terminal import Terminal
from earshot.lab.demo.conversation import AGREEMENT_MS, Conversation, Direction, Peer, Plan, Show, converse, heard_file
from earshot.lab.demo.pictures import Delay, Heard, latency, spoken_heard

PLAIN_EVERY = 0.25
"""Share of the talk between the lines that stand for the view where there is no terminal."""
POINTS = ("p50", "p95", "p99")
USUAL_MS = {"low": 41, "balanced": 68}
"""Mouth to ear, p50, between two clients of one machine that has nothing else to do (README)."""
LONG = 1.4
"""From so many times that on, the demo says why."""


def demo(console: Terminal, plan: Plan) -> bool:
    """Lets two voices talk through a server, and writes recordings, pictures and report.json to
    `plan.out`.

    Returns whether each heard all that the other said. Raises EarshotError where that could not
    even be tried."""
    talk = _talk(console, plan)
    spoken_heard([_heard_picture(way) for way in talk.directions], plan.out / "spoken-heard.png")
    latency([_delay_picture(way) for way in talk.directions], plan.out / "latency.png")
    _write(plan.out / "report.json", report(talk))
    console.print(summary(talk))
    files = ["spoken-heard.png", "latency.png", "report.json", *(heard_file(plan, peer).name for peer in plan.peers)]
    console.say(f"{plan.out}: {', '.join(files)}")
    for note in [*disagreements(talk), *slowness(talk, plan, machine_load())]:
        console.say(note, "note:", "yellow")
    return _judge(console, talk.faults())


def measure_latency(console: Terminal, plan: Plan) -> bool:
    """Holds the same conversation to measure the delay of each stage.

    Returns whether all was heard and the two measures agree."""
    talk = _talk(console, plan)
    latency([_delay_picture(way) for way in talk.directions], plan.out / "latency.png")
    _write(plan.out / "report.json", report(talk))
    for way in talk.directions:
        console.print(stages_table(way))
        console.say(_agreement(way))
    console.say(f"{plan.out}: latency.png, report.json")
    return _judge(console, talk.faults() + disagreements(talk))


def report(talk: Conversation) -> dict[str, Any]:
    """Returns what report.json holds. Latencies are in ms, rates in kbps; null stands for what
    could not be measured."""
    return {
        "directions": [
            {
                "from": way.speaker.name,
                "to": way.listener.name,
                "uplink": way.speaker.uplink,
                "codec_kbps": way.call["codec_kbps"],
                "wire_kbps": way.call["wire_kbps"],
                "call_wire_kbps": way.received["wire_kbps"],
                "uplink_wire_kbps": way.sent["wire_kbps"],
                "mouth_to_ear_ms": way.call["mouth_to_ear_ms"],
                "correlation_latency_ms": _rounded(way.sound.latency_ms),
                "correlation_spread_ms": _rounded(way.sound.spread_ms),
                "disagreement_ms": _rounded(way.disagreement_ms),
                "underruns": way.call["underruns"],
                "missing_frames": way.call["missing"],
                "similarity": _rounded(way.sound.similarity),
                "coverage": _rounded(way.sound.coverage),
            }
            for way in talk.directions
        ],
        "stages_ms": {_name(way): way.call["stages_ms"] for way in talk.directions},
        "model": talk.model,
        "faults": talk.faults(),
    }


def summary(talk: Conversation) -> Table:
    """Returns a table with a column for each direction."""
    table = Table("", *(_name(way) for way in talk.directions), title="What was said and heard")
    for column in table.columns[1:]:
        column.justify = "right"
    rows: dict[str, Callable[[Direction], str]] = {
        "sent as": lambda way: way.speaker.uplink,
        "codec, kbps": lambda way: f"{way.call['codec_kbps']:.1f}",
        "wire, kbps: while there is speech": lambda way: f"{way.call['wire_kbps']:.1f}",
        "wire, kbps: to the listener, whole call": lambda way: f"{way.received['wire_kbps']:.1f}",
        "wire, kbps: from the speaker, whole call": lambda way: f"{way.sent['wire_kbps']:.1f}",
        "mouth to ear, ms: p50 / p95": lambda way: " / ".join(_shown(way.percentiles_ms.get(p)) for p in POINTS[:2]),
        "mouth to ear by sound alone, ms": lambda way: _shown(way.sound.latency_ms),
        "underruns": lambda way: str(way.call["underruns"]),
        "similarity of heard and spoken": lambda way: f"{way.sound.similarity:.2f}",
        "speech that was heard": lambda way: f"{way.sound.coverage:.0%}",
    }
    for title, cell in rows.items():
        table.add_row(title, *(cell(way) for way in talk.directions))
    return table


def stages_table(way: Direction) -> Table:
    """Returns the percentiles of each stage and of the whole."""
    table = Table("stage", *(f"{point} ms" for point in POINTS), title=f"{_name(way)} ({way.speaker.uplink} up)")
    for column in table.columns[1:]:
        column.justify = "right"
    for stage in STAGES:
        values = way.call["stages_ms"].get(stage) or {}
        table.add_row(stage, *(_shown(values.get(point)) for point in POINTS))
    table.add_section()
    table.add_row("mouth to ear", *(_shown(way.percentiles_ms.get(point)) for point in POINTS), style="bold")
    return table


def disagreements(talk: Conversation) -> list[str]:
    """Says in which directions time stamps and sound do not tell the same delay."""
    return [
        f"{_name(way)}: {_agreement(way)}"
        for way in talk.directions
        if way.disagreement_ms is not None and abs(way.disagreement_ms) > AGREEMENT_MS
    ]


def machine_load() -> tuple[float, int]:
    """Returns how many programs wanted to run in the last minute, as the system tells (0 where it
    does not), and how many processors there are for them."""
    known = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return known, os.cpu_count() or 1


def slowness(talk: Conversation, plan: Plan, load: tuple[float, int]) -> list[str]:
    """Says why the delay is longer than a quiet machine makes it, if it is; of a server elsewhere
    that cannot be known."""
    usual = USUAL_MS.get(plan.latency)
    slowest = max((way.percentiles_ms.get("p50") or 0.0 for way in talk.directions), default=0.0)
    if plan.server is not None or usual is None or slowest < LONG * usual:
        return []
    wanting, processors = load
    busy = wanting > processors
    why = (
        f"it is busy ({wanting:.1f} programs want to run, it has {processors} processors); end the others and try again"
        if busy
        else "latency.png shows in which stage the time went"
    )
    return [
        f"{slowest:.0f} ms from mouth to ear is long: {usual} ms are usual on a machine that has time. This one: {why}"
    ]


def _agreement(way: Direction) -> str:
    apart = way.disagreement_ms
    if apart is None:
        return "the delay could not be measured by sound"
    verdict = "they agree" if abs(apart) <= AGREEMENT_MS else "they do not agree"
    stamps = _shown(way.percentiles_ms.get("p50"))
    return (
        f"by time stamps {stamps} ms, by sound {_shown(way.sound.latency_ms)} ms; second by second "
        f"{abs(apart):.1f} ms apart: {verdict}"
    )


def _judge(console: Terminal, faults: Sequence[str]) -> bool:
    for fault in faults:
        console.say(fault, "failed:", "bold red")
    return not faults


def _name(way: Direction) -> str:
    return f"{way.speaker.name} to {way.listener.name}"


def _shown(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.1f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _heard_picture(way: Direction) -> Heard:
    figures = (
        f"{way.speaker.uplink} up, codec {way.call['codec_kbps']:.1f} kbps, "
        f"{_shown(way.percentiles_ms.get('p50'))} ms later, similarity {way.sound.similarity:.2f}"
    )
    return Heard(f"{way.speaker.name}, heard by {way.listener.name}", figures, way.spoken, way.heard, 24_000)


def _delay_picture(way: Direction) -> Delay:
    timeline = way.call["timeline"]
    stages = {stage: [row[1 + index] for row in timeline] for index, stage in enumerate(STAGES)}
    title = f"{_name(way)} ({way.speaker.uplink} up)"
    return Delay(title, [row[0] for row in timeline], stages, way.percentiles_ms, way.sound.latency_ms)


def _talk(console: Terminal, plan: Plan) -> Conversation:
    where = "a server of its own on this machine" if plan.server is None else plan.server
    names = " and ".join(peer.name for peer in plan.peers)
    console.say(f"{names} talk at {plan.kbps:g} kbps through {where}")
    with ending_cleanly(), shown(console, plan.peers, plan.room) as show:
        return converse(plan, show)


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Treats SIGTERM as Ctrl-C, so that no child process is left."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def shown(console: Terminal, peers: Sequence[Peer], room: str) -> Iterator[Show]:
    """Shows a panel for each client in a terminal, and a few lines elsewhere."""
    if not console.is_terminal:
        yield _plain(console, peers, room)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(states: Sequence[dict[str, Any]], share: float) -> None:
            live.update(panels(states, share, peers, room), refresh=True)

        show([{}] * len(peers), 0.0)
        yield show


def panels(states: Sequence[dict[str, Any]], share: float, peers: Sequence[Peer], room: str) -> RenderableType:
    """Returns the views of all clients, one above the other, and how much of the talk is over."""
    views = [render(_state(state, peer, room)) for state, peer in zip(states, peers, strict=True)]
    for view in views:
        if isinstance(view, Panel):
            view.subtitle = None  # the keys of a call, which nobody presses here
    progress = Table.grid(expand=True, padding=(0, 1))
    progress.add_column(ratio=1)
    progress.add_column(justify="right")
    progress.add_row(ProgressBar(total=1.0, completed=share), Text(f"{share:.0%} of the talk", "dim"))
    return Group(*views, progress)


def _plain(console: Terminal, peers: Sequence[Peer], room: str) -> Show:
    last = -1.0

    def show(states: Sequence[dict[str, Any]], share: float) -> None:
        nonlocal last
        if share - last < PLAIN_EVERY and not share == 1.0 > last:
            return
        last = share
        for state, peer in zip(states, peers, strict=True):
            line = f"{share:4.0%} {peer.name}: {plain_line(_state(state, peer, room))}"
            console.say(line)

    return show


def _state(status: dict[str, Any], peer: Peer, room: str) -> ViewState:
    """Makes a view from the JSON of `earshot call --status-json`; a client that is still starting
    has printed nothing."""
    if not status:
        return ViewState(peer.name, room, "server", uplink="pcm" if peer.uplink == "pcm" else "codes")
    speakers = [SpeakerState(**speaker) for speaker in status["speakers"]]
    return ViewState(**{**status, "speakers": speakers, "entropy": EntropyState(**status["entropy"])})
