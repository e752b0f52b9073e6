"""Virtual sound devices of three computers: a PulseAudio of our own, reached through PortAudio and
ALSA.

Each side, a and b and one in stereo, has a microphone (what is played onto its wire is spoken into
it) and a loudspeaker that can be recorded. Needs pulseaudio, pulseaudio-utils, libportaudio2 and
libasound2-plugins."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from earshot.codec.errors import EarshotError, UsageError

START_S = 30
IDLE_S = 600
"""A daemon that was left behind ends after so long."""
SIDES = {"a": (24_000, 1), "b": (24_000, 1), "stereo": (48_000, 2)}
"""Sample rate and channels of a side's devices."""


class SoundServer:
    """A PulseAudio daemon in a folder of its own; leaving the context ends it and whatever plays or
    records. Raises UsageError where there is no PulseAudio."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        missing = [tool for tool in ("pulseaudio", "paplay", "parec", "pactl") if shutil.which(tool) is None]
        if missing:
            raise UsageError(
                f"virtual sound devices need {', '.join(missing)}, which Linux has (Debian and Ubuntu: "
                "apt-get install pulseaudio pulseaudio-utils libasound2-plugins)"
            )
        self.folder = Path(tempfile.mkdtemp(prefix="sound"))  # a socket's path may have 107 bytes
        self._log = (self.folder / "log").open("wb")
        try:
            self._start_daemon()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start_daemon(self) -> None:
        self._socket = self.folder / "native"
        script = [f"load-module module-native-protocol-unix auth-anonymous=1 socket={self._socket}"]
        for side, (rate, channels) in SIDES.items():
            # Without norewinds the first callback comes a second late and the daemon spins.
            null = f"load-module module-null-sink norewinds=1 rate={rate} channels={channels}"
            script += [f"{null} sink_name=spk_{side}", f"{null} sink_name=wire_{side}"]
            script.append(f"load-module module-remap-source source_name=mic_{side} master=wire_{side}.monitor")
        (self.folder / "default.pa").write_text("\n".join(script) + "\n", "utf-8")
        (self.folder / "asound.conf").write_text("</usr/share/alsa/alsa.conf>\npcm.!default { type pulse }\n", "utf-8")
        own = {"XDG_RUNTIME_DIR": str(self.folder), "HOME": str(self.folder)}
        self._processes = [
            subprocess.Popen(
                [
                    *("pulseaudio", "-n", "-F", self.folder / "default.pa", "--daemonize=no"),
                    *(f"--exit-idle-time={IDLE_S}", "--use-pid-file=no"),
                ],
                env=os.environ | own,
                stderr=self._log,
            )
        ]
        deadline = time.monotonic() + START_S
        info = ["pactl", "info"]
        while subprocess.run(info, env=self._env(), capture_output=True, check=False, timeout=START_S).returncode:
            if self._processes[0].poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "log").read_text("utf-8", errors="replace").strip()
                raise EarshotError(f"PulseAudio did not start: {said or 'it said nothing'}")
            time.sleep(0.1)

    def _env(self) -> dict[str, str]:
        return os.environ | {"PULSE_SERVER": f"unix:{self._socket}"}

    def device_env(self, side: str) -> dict[str, str]:
        """What makes the default sound devices of a process the microphone and loudspeaker of this
        side."""
        return {
            "PULSE_SERVER": f"unix:{self._socket}",
            "PULSE_SINK": f"spk_{side}",
            "PULSE_SOURCE": f"mic_{side}",
            "ALSA_CONFIG_PATH": str(self.folder / "asound.conf"),
        }

    def environment(self, side: str) -> dict[str, str]:
        """Returns the environment of this process with that."""
        return os.environ | self.device_env(side)

    def speak(self, side: str, file: Path) -> subprocess.Popen[bytes]:
        """Plays a file into the microphone; the process ends with it."""
        return self._start("paplay", f"--device=wire_{side}", str(file))

    @contextmanager
    def record(self, side: str, file: Path) -> Iterator[None]:
        """Records the loudspeaker as WAV as long as this lasts."""
        rate, channels = SIDES[side]
        form = ["--file-format=wav", f"--rate={rate}", f"--channels={channels}", "--format=s16le"]
        recorder = self._start("parec", f"--device=spk_{side}.monitor", *form, str(file))
        try:
            yield
        finally:
            recorder.terminate()
            recorder.wait(30)

    def listen(self, device: str, latency_ms: int) -> subprocess.Popen[bytes]:
        """Records a device, 24 kHz mono, as 16-bit samples to the process's standard output."""
        form = ["--raw", "--rate=24000", "--channels=1", "--format=s16le", f"--latency-msec={latency_ms}"]
        return self._start("parec", f"--device={device}", *form, stdout=subprocess.PIPE)

    def _start(self, *command: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, env=self._env(), stdout=stdout, stderr=self._log)
        self._processes.append(process)
        return process

    def __exit__(self, *error: object) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
