"""Measures the time from a microphone's device to a loudspeaker's: speech is played into one
virtual device, a call carries it, and both devices are recorded on one clock."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from earshot.client.core.latency import STAGES
from earshot.codec.pcm import Pcm, from_s16
from earshot.lab.children import START_S, Child, ChildError, start_server, wait_until
from earshot.lab.demo.measure import compare
from earshot.lab.devices.sound_server import SoundServer
from earshot.lab.talk import SAMPLE_RATE, talk

RECORDER_MS = 50
"""More than a call asks of its devices: PulseAudio gives all the shortest delay that one wants."""
BEFORE_S, AFTER_S = 0.5, 2.0


@dataclass(frozen=True)
class DeviceDelay:
    """What was measured, in ms."""

    pieces_ms: list[float]
    """From the microphone's device to the loudspeaker's, of each piece of speech that was heard."""
    pieces: int
    stages_ms: dict[str, Any]
    """The call's own view by the stages of `client/core/latency.py`, with percentiles."""
    mouth_to_ear_ms: dict[str, float]
    """The same of the whole, with what PortAudio says of the devices' buffers."""
    underruns: int

    def percentile(self, point: float) -> float | None:
        return float(np.percentile(self.pieces_ms, point)) if self.pieces_ms else None


def start_of(chunks: list[tuple[int, int]], rate: int = SAMPLE_RATE) -> int:
    """Returns when a recording began, in microseconds, from when each chunk came and how many
    samples there were with it: that of the chunk which came soonest after its last sample."""
    return min(came_us - samples * 1_000_000 // rate for came_us, samples in chunks)


class Recording:
    """What a device plays, and when it began, on the monotonic clock."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._data = bytearray()
        self._chunks: list[tuple[int, int]] = []
        self._thread = threading.Thread(target=self._read, name="recording", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        pipe = self._process.stdout
        if pipe is None:
            return
        with pipe:
            while chunk := os.read(pipe.fileno(), 1 << 16):
                self._data += chunk
                self._chunks.append((time.monotonic_ns() // 1000, len(self._data) // 2))

    def stop(self) -> tuple[Pcm, int]:
        """Returns the samples and when the first was played, in microseconds."""
        self._process.terminate()
        self._thread.join(START_S)
        if not self._chunks:
            raise ChildError("a virtual sound device could not be recorded")
        return from_s16(bytes(self._data[: len(self._data) // 2 * 2])), start_of(self._chunks)


def measure(seconds: float, kbps: float, latency: str, model: str, say: Callable[[str], None]) -> DeviceDelay:
    """Lets one call speak into another through a server, each with a virtual device.

    Raises UsageError where there is no PulseAudio, EarshotError where the call does not come
    about."""
    with tempfile.TemporaryDirectory(prefix="earshot-") as name, ExitStack() as stack:
        folder = Path(name)
        soundfile.write(folder / "spoken.wav", talk(seconds), SAMPLE_RATE)
        sound = stack.enter_context(SoundServer())
        say("virtual devices are there; starting a server and two calls")
        server, url = start_server(stack, folder, model)

        def call(side: str, *more: str) -> Child:
            arguments = ["call", "devices", "--server", url, "--name", side, "--model", model, "--kbps", f"{kbps:g}"]
            arguments += ["--latency", latency, "--uplink", "codes", "--status-json", "--no-dtx"]
            arguments += ["--report", str(folder / f"{side}.json"), *more]
            return stack.enter_context(Child(side, arguments, sound.environment(side)))

        ear, mouth = call("b", "--input", "none"), call("a", "--output", "none")

        def hears() -> bool:
            return any(speaker["codec_kbps"] > 0 for speaker in ear.status.get("speakers", []))

        wait_until(hears, ear, mouth, server)
        recordings = [Recording(sound.listen(f"{device}.monitor", RECORDER_MS)) for device in ("wire_a", "spk_b")]
        time.sleep(BEFORE_S)
        say(f"speaking for {seconds:g} s")
        player = sound.speak("a", folder / "spoken.wav")
        wait_until(lambda: player.poll() is not None, ear, mouth, server, within_s=seconds + START_S)
        if player.returncode:
            raise ChildError(f"the player of the virtual microphone ended with status {player.returncode}")
        time.sleep(AFTER_S)
        (spoken, spoken_us), (heard, heard_us) = [recording.stop() for recording in recordings]
        mouth.stop()
        ear.stop()
        mouth.check()
        ear.check()
        report = json.loads((folder / "b.json").read_text("utf-8"))
    found = compare(spoken, heard, SAMPLE_RATE, spoken_us, heard_us)
    speaker = next(iter(report["speakers"].values()))
    return DeviceDelay(
        [piece.delay_ms for piece in found.pieces if piece.heard],
        len(found.pieces),
        {stage: speaker["stages_ms"][stage] for stage in STAGES},
        speaker["mouth_to_ear_ms"],
        speaker["underruns"],
    )
