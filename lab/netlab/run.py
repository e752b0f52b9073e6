"""Runs one call of each system over one network, and measures it."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from earshot.client.audio.files import read_blocks
from earshot.codec.pcm import Pcm
from earshot.lab.children import START_S, Child, start_server, wait_until
from earshot.lab.netlab.figures import Figures, measured
from earshot.lab.netlab.link import CLIENTS, SERVER, address
from earshot.lab.netlab.profiles import LEAD_S, Profile
from earshot.lab.talk import SAMPLE_RATE, talk

LINGER_S = 3.0
MOUTH, EAR = CLIENTS


@dataclass(frozen=True)
class Recorded:
    """One call as it was; to judge it takes the processor, and can wait."""

    system: str
    profile: Profile
    spoken: Pcm
    heard: Pcm
    spoken_start_us: int
    heard_start_us: int
    underruns: int
    """From the begin of the talk on; what play-out learns before is not counted."""
    underrun_ms: float
    """From the first packet on."""
    kbps: tuple[float, float]
    late_ms: float
    frames_missing: int | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)

    def figures(self) -> Figures:
        """Returns what the call was like."""
        seconds = self.spoken.size / SAMPLE_RATE
        return Figures(
            self.system,
            self.profile.key,
            seconds,
            underruns_a_minute=self.underruns * 60 / seconds,
            concealed=self.underrun_ms / 1000 / (seconds + LEAD_S),
            up_kbps=self.kbps[0],
            down_kbps=self.kbps[1],
            frames_missing=self.frames_missing,
            late_ms=self.late_ms,
            stages_ms=self.stages_ms,
            **measured(self.spoken, self.heard, SAMPLE_RATE, self.spoken_start_us, self.heard_start_us),
        )


@dataclass(frozen=True)
class Plan:
    """How one run is to be. `seconds` of speech; `latency` of the calls, that of the profile if
    empty; `arrivals`, a folder for what the listener writes down of them."""

    seconds: float
    model: str = "default"
    latency: str = ""
    arrivals: Path | None = None


class _Line:
    """The process that carries the packets."""

    def __init__(self, name: str, child: Child) -> None:
        self.name, self._child = name, child
        self._began: dict[str, Any] | None = None
        self._began_s = 0.0

    def space(self, part: str) -> str:
        return f"{self.name}-{part}"

    def begin(self) -> None:
        """Counts bytes from now on."""
        self._began, self._began_s = json.loads(json.dumps(self._child.status)), time.monotonic()

    def kbps(self) -> tuple[float, float]:
        """Returns the rates of the speaker's line up and the listener's down."""
        before, after = self._began or {}, self._child.status
        took_s = time.monotonic() - self._began_s
        up, down = (
            (after["bytes"][way] - before.get("bytes", {}).get(way, 0)) * 8 / 1000 / took_s
            for way in (f"{MOUTH} up", f"{EAR} down")
        )
        return up, down

    @property
    def late_ms(self) -> float:
        return float(self._child.status.get("late_ms", 0.0))


@contextmanager
def _line(profile: Profile, system: str) -> Iterator[_Line]:
    name = f"e{os.getpid() % 100_000}{system[0]}"
    module = "earshot.lab.netlab.link"
    with Child("the line", [name, profile.key], module=module) as child:
        wait_until(lambda: "bytes" in child.status, child)
        yield _Line(name, child)


def _spoken_file(folder: Path, pcm: Pcm) -> Path:
    path = folder / "spoken.wav"
    soundfile.write(path, np.concatenate([np.zeros(round(LEAD_S * SAMPLE_RATE), np.float32), pcm]), SAMPLE_RATE)
    return path


def earshot(profile: Profile, plan: Plan) -> Recorded:
    """Records a call through a server. Raises ChildError."""
    pcm, latency = talk(plan.seconds), plan.latency or profile.latency
    with tempfile.TemporaryDirectory(prefix="earshot-") as name, ExitStack() as stack:
        folder = Path(name)
        spoken, heard = _spoken_file(folder, pcm), folder / "heard.wav"
        line = stack.enter_context(_line(profile, "earshot"))
        server, url = start_server(stack, folder, plan.model, host="0.0.0.0", space=line.space(SERVER))  # noqa: S104
        port = url.rpartition(":")[2]

        def call(part: str, *more: str) -> Child:
            to = f"ws://{address(part, of_server=True)}:{port}"
            arguments = ["call", "lab", "--server", to, "--name", part, "--model", plan.model, "--status-json"]
            arguments += [
                "--latency",
                plan.latency or profile.latency,
                "--kbps",
                f"{profile.kbps:g}",
                "--uplink",
                "codes",
                "--no-dtx",
            ]
            arguments += ["--report", str(folder / f"{part}.json"), *more]
            return stack.enter_context(Child(part, arguments, space=line.space(part)))

        noted = []
        if plan.arrivals is not None:
            plan.arrivals.mkdir(parents=True, exist_ok=True)
            noted = ["--force", "--arrivals", str(plan.arrivals / f"{profile.key}-{latency}.txt")]
        ear = call(EAR, "--input", "none", "--output", str(heard), *noted)
        wait_until(lambda: ear.status.get("state") == "connected" and ear.status.get("seconds", 0) > 0, ear, server)
        mouth = call(MOUTH, "--input", str(spoken), "--output", "none", "--linger", "0")
        wait_until(lambda: mouth.status.get("seconds", 0) > LEAD_S, mouth, server)
        line.begin()
        early = sum(speaker["underruns"] for speaker in ear.status["speakers"])
        wait_until(lambda: mouth.status.get("seconds", 0) > LEAD_S + plan.seconds - 1, mouth, server)
        rates = line.kbps()
        wait_until(lambda: not mouth.running, ear, within_s=plan.seconds + START_S)
        mouth.check()
        time.sleep(LINGER_S)
        ear.stop()
        reports = {part: json.loads((folder / f"{part}.json").read_text("utf-8")) for part in CLIENTS}
        speaker = next(iter(reports[EAR]["speakers"].values()))
        spoken_us = int(reports[MOUTH]["spoken_start_us"] + LEAD_S * 1e6)
        sound = np.concatenate(list(read_blocks(heard, 240)))
        return Recorded(
            "earshot",
            profile,
            pcm,
            sound,
            spoken_us,
            int(reports[EAR]["heard_start_us"]),
            speaker["underruns"] - early,
            speaker["underrun_ms"],
            rates,
            line.late_ms,
            speaker["missing"],
            {stage: each["p50"] for stage, each in speaker["stages_ms"].items() if each is not None},
        )


def why_no_webrtc() -> str | None:
    """Returns why there is nothing to compare with; None if there is."""
    return None if importlib.util.find_spec("aiortc") else "aiortc is not installed (pip install aiortc)"


def webrtc(profile: Profile, plan: Plan) -> Recorded:
    """Records a call from peer to peer by aiortc. Raises ChildError."""
    pcm, module = talk(plan.seconds), "earshot.lab.netlab.webrtc"
    with tempfile.TemporaryDirectory(prefix="earshot-") as name, ExitStack() as stack:
        folder = Path(name)
        spoken, heard = _spoken_file(folder, pcm), folder / "heard.wav"
        line = stack.enter_context(_line(profile, "webrtc"))
        ends = {
            role: stack.enter_context(Child(role, [role, str(folder), *more], space=line.space(part), module=module))
            for role, part, more in (
                ("ear", EAR, [str(heard)]),
                ("mouth", MOUTH, [str(spoken), f"{profile.opus_kbps:g}"]),
            )
        }
        wait_until((folder / "mouth.json").exists, *ends.values())
        began_s = json.loads((folder / "mouth.json").read_text("utf-8"))["spoken_start_us"] / 1e6 + LEAD_S
        wait_until(lambda: time.monotonic() > began_s, *ends.values())
        line.begin()
        end_s, within_s = began_s + plan.seconds - 1, plan.seconds + START_S
        wait_until(lambda: time.monotonic() > end_s, *ends.values(), within_s=within_s)
        rates = line.kbps()
        wait_until((folder / "ear.json").exists, ends["ear"])
        told = json.loads((folder / "ear.json").read_text("utf-8"))
        sound = np.concatenate(list(read_blocks(heard, 240)))
        return Recorded(
            "aiortc",
            profile,
            pcm,
            sound,
            round(began_s * 1e6),
            told["heard_start_us"],
            told["underruns"],
            told["underrun_ms"],
            rates,
            line.late_ms,
        )
