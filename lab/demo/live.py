"""`earshot demo --live`: from this machine's microphone to its loudspeaker, through a server and
the codec."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from earshot.client.audio.portaudio import list_devices
from earshot.codec.errors import AudioError
from earshot.codec.terminal import Terminal
from earshot.lab.children import START_S, Child, start_server
from earshot.lab.demo.conversation import Peer
from earshot.lab.demo.show import POINTS, ending_cleanly, shown

WATCH_S = 0.1
EXTRA_S = 1.0
"""The listener stays longer than the speaker, to hear the end."""
INSTALL = (
    "PortAudio reaches the devices of ALSA, PulseAudio and PipeWire (Debian, Ubuntu: apt install libportaudio2 "
    "libasound2-plugins; Fedora: dnf install portaudio alsa-plugins-pulseaudio; macOS: brew install portaudio). "
    "In a container there are none. Without --live the demo needs no sound device"
)


def check_devices() -> None:
    """Raises AudioError, saying what to install, where there is no microphone or no loudspeaker."""
    devices = list_devices()
    missing = [
        name
        for name, found in (
            ("microphone", any(device.inputs for device in devices)),
            ("loudspeaker", any(device.outputs for device in devices)),
        )
        if not found
    ]
    if missing:
        raise AudioError(f"this machine has no {' and no '.join(missing)} that PortAudio can see. {INSTALL}")


def live(console: Terminal, out: Path, kbps: float, model: str, seconds: float, uplink: str = "pcm") -> bool:
    """Plays the microphone to the loudspeaker, through two clients and a server.

    Returns whether something was heard. Raises AudioError where there is no sound device,
    ChildError if a process fails."""
    check_devices()
    out.mkdir(parents=True, exist_ok=True)
    console.say("Speak; you hear yourself through the codec. Use headphones, or it will whistle. Ctrl-C ends it.")
    peers = [Peer("you", Path(), "codes" if uplink == "codes" else "pcm"), Peer("your ear", Path(), "pcm")]
    with ending_cleanly(), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="earshot-")))
        server, url = start_server(stack, folder, model)
        show = stack.enter_context(shown(console, peers, "demo"))
        common = ["call", "demo", "--server", url, "--model", model, "--kbps", f"{kbps:g}", "--status-json"]
        mouth = [*common, "--name", "you", "--uplink", uplink, "--output", "none"]
        ear = [*common, "--name", "your ear", "--input", "none"]
        ear += ["--report", str(folder / "ear.json")]
        calls = [
            stack.enter_context(Child("the microphone's client", [*mouth, "--seconds", f"{seconds:g}"])),
            stack.enter_context(Child("the loudspeaker's client", [*ear, "--seconds", f"{seconds + EXTRA_S:g}"])),
        ]
        deadline = time.monotonic() + START_S + seconds
        while any(call.running for call in calls) and time.monotonic() < deadline:
            for call in calls:
                call.check()
            server.check(ended=True)
            spoken = float(calls[0].status.get("seconds", 0))
            show([call.status for call in calls], min(spoken / seconds, 1.0))
            time.sleep(WATCH_S)
        for call in calls:
            call.check()
        report: dict[str, Any] = json.loads((folder / "ear.json").read_text("utf-8"))
    heard = next((speaker for speaker in report["speakers"].values() if speaker["frames"]), None)
    if heard is None:
        console.say("nothing of the microphone reached the loudspeaker's client", "failed:", "bold red")
        return False
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    delays = ", ".join(f"{point} {heard['mouth_to_ear_ms'][point]:.0f} ms" for point in POINTS)
    console.say(
        f"codec {heard['codec_kbps']:.1f} kbps, wire {heard['wire_kbps']:.1f} kbps, mouth to ear {delays}, "
        f"{heard['underruns']} underruns ({out / 'report.json'})"
    )
    return True
