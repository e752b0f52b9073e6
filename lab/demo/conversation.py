"""A conversation: two clients talk to each other through a server, each in a process of its own,
and the recordings are measured."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile

from earshot.client.audio.files import read_blocks
from earshot.client.core.latency import STAGES
from earshot.codec.errors import EarshotError, UsageError
from earshot.codec.pcm import Pcm
from earshot.lab import VOICES
from earshot.lab.children import START_S, Child, ChildError, start_server
from earshot.lab.demo.measure import Comparison, compare, placed

SAMPLE_RATE = 24_000
LEAD_S = 2.0
"""Silence before the talk, in which the second client connects; processes that start together
differ by less."""
LINGER_S = 3.0
"""Time after the talk, in which the client that ended first hears the end of the other's speech."""
GRACE_S = 30.0
WATCH_S = 0.1
LEAST_COVERAGE, LEAST_SIMILARITY = 0.95, 0.4
"""Everything was heard if hardly a second of speech is missing and the whole resembles what was
spoken: noise and other speech stay under 0.3 (lab/demo/measure.py)."""
AGREEMENT_MS = 5.0


@dataclass(frozen=True)
class Peer:
    """One of the two speakers. `voice` is an audio file."""

    name: str
    voice: Path
    uplink: Literal["auto", "pcm", "codes"] = "auto"
    """As `earshot call --uplink`; afterwards, what was sent."""


DEMO = Peer("Ada", VOICES / "ada.flac"), Peer("Ben", VOICES / "ben.flac")


@dataclass(frozen=True)
class Plan:
    """`server` None starts one on a free port of this machine. `seconds` of each voice (all of the
    longer one if None); recordings go to the folder `out`."""

    peers: tuple[Peer, Peer]
    out: Path
    server: str | None = None
    room: str = "demo"
    kbps: float = 6.0
    model: str = "default"
    seconds: float | None = None
    latency: str = "balanced"
    """As `earshot call --latency`."""
    all_traces: bool = False
    """Whether every packet says when what happened to it. That costs bits on the wire."""


@dataclass(frozen=True)
class Direction:
    """What one speaker said and the other heard.

    `call` is the listener's report of the speaker (client/ui/figures.py), `sent` the speaker's
    report of itself, `received` the listener's."""

    speaker: Peer
    listener: Peer
    call: dict[str, Any]
    sent: dict[str, Any]
    received: dict[str, Any]
    """What came to the listener in all, control messages included."""
    began_s: float
    """When the speaker began, on the time axis of the timeline in `call`."""
    sound: Comparison
    spoken: Pcm
    heard: Pcm
    """What was heard, shifted by the delay."""

    @property
    def percentiles_ms(self) -> dict[str, float]:
        return self.call["mouth_to_ear_ms"] or {}

    @property
    def disagreement_ms(self) -> float | None:
        """Returns the delay by time stamps minus the delay by sound; None if nothing could be
        compared.

        It is the median over all pieces that were heard, each compared with the time stamps of the
        same second: the two are independent measures of one thing."""
        timeline = np.array(self.call["timeline"], np.float64).reshape(-1, 1 + len(STAGES))
        times, totals = timeline[:, 0], timeline[:, 1:].sum(axis=1)
        differences = []
        for piece in self.sound.pieces:
            first = self.began_s + piece.start_s + piece.delay_ms / 1000
            within = totals[(times >= first) & (times < first + 1)]
            if piece.heard and within.size:
                differences.append(float(within.mean()) - piece.delay_ms)
        return float(np.median(differences)) if differences else None

    def faults(self) -> list[str]:
        """Says in sentences what keeps this from being a conversation."""
        who = f"{self.listener.name} did not hear"
        if not self.call["frames"]:
            return [f"{who} anything of {self.speaker.name}"]
        if self.sound.coverage < LEAST_COVERAGE:
            return [f"{who} all that {self.speaker.name} said: {self.sound.coverage:.0%} of the speech came through"]
        if self.sound.similarity < LEAST_SIMILARITY:
            return [f"{who} what {self.speaker.name} said: similarity {self.sound.similarity:.2f}"]
        return []


@dataclass(frozen=True)
class Conversation:
    directions: tuple[Direction, Direction]
    model: dict[str, str]

    def faults(self) -> list[str]:
        return [fault for direction in self.directions for fault in direction.faults()]


Show = Callable[[Sequence[dict[str, Any]], float], None]
"""(the status of both clients as client/ui/view.py's ViewState, share of the talk that is over)"""


def converse(plan: Plan, show: Show = lambda states, share: None) -> Conversation:
    """Runs a conversation in real time. Raises ChildError if a process fails, AudioError for an
    unreadable voice."""
    if plan.seconds is not None and plan.seconds <= 0:
        raise UsageError("a talk takes more than 0 seconds")
    plan.out.mkdir(parents=True, exist_ok=True)
    voices = _voices(plan)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="earshot-")))
        server, url = None, plan.server
        if url is None:
            server, url = start_server(stack, folder, plan.model)
        calls = [
            stack.enter_context(Child(peer.name, _call(plan, peer, url, folder / f"{number}.json")))
            for number, peer in enumerate(plan.peers)
        ]
        _watch(calls, server, LEAD_S + voices[0].size / SAMPLE_RATE, show)
        reports = [_report(folder / f"{number}.json", peer) for number, peer in enumerate(plan.peers)]
    ways = (0, 1), (1, 0)
    first, second = (_direction(plan, voices, reports, speaker, listener) for speaker, listener in ways)
    return Conversation((first, second), reports[0]["model"])


def spoken_file(plan: Plan, peer: Peer) -> Path:
    return plan.out / f"spoken-by-{peer.name.lower()}.wav"


def heard_file(plan: Plan, peer: Peer) -> Path:
    return plan.out / f"heard-by-{peer.name.lower()}.wav"


def _voices(plan: Plan) -> list[Pcm]:
    """Returns both voices with the same length; a voice that is shorter than asked for begins
    again.

    They are also written to files, with silence before them."""
    clips = [np.concatenate(list(read_blocks(peer.voice, SAMPLE_RATE // 100))) for peer in plan.peers]
    size = max(clip.size for clip in clips) if plan.seconds is None else round(plan.seconds * SAMPLE_RATE)
    voices = []
    for peer, clip in zip(plan.peers, clips, strict=True):
        voice = np.pad(clip, (0, max(0, size - clip.size))) if plan.seconds is None else np.resize(clip, size)
        lead = np.zeros(round(LEAD_S * SAMPLE_RATE), np.float32)
        soundfile.write(spoken_file(plan, peer), np.concatenate([lead, voice]), SAMPLE_RATE)
        voices.append(voice)
    return voices


def _call(plan: Plan, peer: Peer, url: str, report: Path) -> list[str]:
    return [
        *("call", plan.room, "--server", url, "--name", peer.name, "--model", plan.model),
        *("--kbps", f"{plan.kbps:g}", "--uplink", peer.uplink, "--linger", f"{LINGER_S:g}"),
        *("--latency", plan.latency, *(("--trace-every", "0") if plan.all_traces else ())),
        *("--input", str(spoken_file(plan, peer)), "--output", str(heard_file(plan, peer))),
        *("--report", str(report), "--status-json", "--force"),
    ]


def _watch(calls: Sequence[Child], server: Child | None, talk_s: float, show: Show) -> None:
    """Shows both calls until they have ended."""
    deadline = time.monotonic() + START_S + talk_s + LINGER_S + GRACE_S
    while any(call.running for call in calls):
        for call in calls:
            call.check()
        if server is not None:
            server.check(ended=True)
        seconds = min(float(call.status.get("seconds", 0)) for call in calls)
        show([call.status for call in calls], min(seconds / talk_s, 1.0))
        if time.monotonic() > deadline:
            raise ChildError(f"{next(call.name for call in calls if call.running)} did not come to an end")
        time.sleep(WATCH_S)
    for call in calls:
        call.check()


def _report(path: Path, peer: Peer) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EarshotError(f"{peer.name} left no report of the call ({error})") from error
    if report["spoken_start_us"] is None or report["heard_start_us"] is None:
        raise EarshotError(f"{peer.name} neither spoke nor heard")
    return report


_NOTHING: dict[str, Any] = {
    "codec_kbps": 0.0, "wire_kbps": 0.0, "frames": 0, "missing": 0, "underruns": 0,
    "mouth_to_ear_ms": None, "stages_ms": {}, "timeline": [],
}  # fmt: skip
"""The report of a speaker of whom nothing came."""


def _direction(
    plan: Plan, voices: Sequence[Pcm], reports: Sequence[dict[str, Any]], speaker: int, listener: int
) -> Direction:
    heard = np.concatenate(list(read_blocks(heard_file(plan, plan.peers[listener]), SAMPLE_RATE // 100)))
    spoken_us = int(reports[speaker]["spoken_start_us"] + LEAD_S * 1e6)
    heard_us = int(reports[listener]["heard_start_us"])
    sound = compare(voices[speaker], heard, SAMPLE_RATE, spoken_us, heard_us)
    shift = round((heard_us - spoken_us - (sound.latency_ms or 0) * 1e3) * SAMPLE_RATE / 1e6)
    said = str(reports[speaker]["peer"])
    return Direction(
        replace(plan.peers[speaker], uplink=reports[speaker]["uplink"]),
        plan.peers[listener],
        {**_NOTHING, **reports[listener]["speakers"].get(said, {})},
        reports[speaker]["sent"],
        reports[listener]["received"],
        (spoken_us - int(reports[listener]["spoken_start_us"])) / 1e6,
        sound,
        voices[speaker],
        placed(heard, shift, voices[speaker].size),
    )
