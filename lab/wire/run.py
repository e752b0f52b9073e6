"""Calls of two, each in a room of its own, over TLS on loopback. What goes up is counted at the
first one's socket, what comes down at the other's."""

from __future__ import annotations

import hashlib
import json
import ssl
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from earshot.client.audio.files import read_blocks
from earshot.codec.pcm import Pcm
from earshot.lab import VOICES
from earshot.lab.children import START_S, WATCH_S, Child, ChildError, start_server
from earshot.lab.loadtest.run import child_environment
from earshot.lab.wire.sockets import count

SAMPLE_RATE = 24_000
SETTLED_S = 3.0
"""From here on is counted: hello, welcome and the first pings are over."""
VOICE_NAMES = "ada", "ben"
NOISE_DBFS = -60.0
"""What a quiet room sounds like."""


@dataclass(frozen=True)
class Case:
    """One call, and what it may cost each way."""

    key: str
    label: str
    kbps: float
    latency: str
    most_kbps: float
    speak: tuple[str, ...] = VOICE_NAMES
    """Who reads aloud all the time; the others say nothing."""


CASES = (
    Case("default", "both read aloud", 6.0, "balanced", 24.0),
    Case("thrift", "both read aloud", 1.5, "thrift", 14.5),  # 4.5 are acknowledgements, if they find no message
    Case("listened", "one reads aloud", 1.5, "thrift", 11.0, VOICE_NAMES[:1]),
    Case("silence", "both are silent", 6.0, "balanced", 2.0, ()),
)


@dataclass(frozen=True)
class Row:
    """What one call cost."""

    case: Case
    seconds: float
    share: float
    """Share of the first one's frames that were sent."""
    up_kbps: float
    down_kbps: float

    @property
    def is_too_much(self) -> bool:
        return max(self.up_kbps, self.down_kbps) > self.case.most_kbps

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def said(speaks: bool, voice: str, seconds: float) -> Pcm:
    """Returns what is said: a voice again and again, or the noise of a quiet room."""
    size = round(seconds * SAMPLE_RATE)
    if speaks:
        return np.resize(np.concatenate(list(read_blocks(VOICES / f"{voice}.flac", 240))), size)
    noise = np.random.default_rng(0).standard_normal(size) * 10 ** (NOISE_DBFS / 20)
    return np.asarray(noise, np.float32)


def measure(cases: Sequence[Case], seconds: float, model: str, folder: Path) -> list[Row]:
    """Makes all calls at once and counts for so long. Raises EarshotError."""
    environment = {**child_environment(), "EARSHOT_TLS": "self-signed", "XDG_CONFIG_HOME": str(folder)}
    with ExitStack() as stack:
        server, url = start_server(stack, folder, model, environment)
        port = int(url.rpartition(":")[2])
        certificate = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port), timeout=START_S))
        seal = hashlib.sha256(certificate).hexdigest()

        def call(case: Case, voice: str) -> Child:
            spoken = folder / f"{case.key}-{voice}.wav"
            soundfile.write(spoken, said(voice in case.speak, voice, seconds + START_S), SAMPLE_RATE)
            arguments = ["call", case.key, "--server", url, "--tls-fingerprint", seal, "--name", voice]
            arguments += ["--model", model, "--kbps", f"{case.kbps:g}", "--latency", case.latency, "--uplink", "codes"]
            arguments += ["--input", str(spoken), "--output", str(spoken.with_suffix(".heard.wav"))]
            arguments += ["--status-json", "--report", str(folder / f"{case.key}-{voice}.json")]
            return stack.enter_context(Child(f"{case.key} {voice}", arguments))

        calls = {case: [call(case, voice) for voice in VOICE_NAMES] for case in cases}
        everyone = [child for pair in calls.values() for child in pair]
        deadline = time.monotonic() + START_S
        while any(child.status.get("seconds", 0) < SETTLED_S for child in everyone):
            for child in (server, *everyone):
                child.check(ended=True)
            if time.monotonic() > deadline:
                raise ChildError(f"the calls took more than {START_S:g} s to begin")
            time.sleep(WATCH_S)
        before, began_s = [count(child.pid, port) for child in everyone], time.monotonic()
        time.sleep(seconds)
        after, took_s = [count(child.pid, port) for child in everyone], time.monotonic() - began_s
        for child in everyone:
            child.stop()
        rows = []
        for index, case in enumerate(cases):
            sent = json.loads((folder / f"{case.key}-{VOICE_NAMES[0]}.json").read_text("utf-8"))["sent"]
            share = sent["frames"] / max(sent["frames"] + sent["silent_frames"], 1)
            up = after[2 * index].up - before[2 * index].up
            down = after[2 * index + 1].down - before[2 * index + 1].down
            rows.append(Row(case, took_s, share, *(8 * size / took_s / 1000 for size in (up, down))))
        return rows
