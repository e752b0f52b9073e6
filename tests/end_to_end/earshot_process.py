"""Real `earshot` processes for tests: a server, and calls that are watched by their --status-json
lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.peers import PATIENT

COMMAND = [sys.executable, "-m", "earshot"]
PATIENCE_S = 90.0
"""For things that take seconds on a quiet machine; tests run on busy ones."""
PATIENT_ENV = {f"EARSHOT_{name.upper()}": str(value) for name, value in PATIENT.items()}
"""For a server in a process of its own, or for one that a command starts."""
ATTEMPTS = 3
"""Sound is real time: a machine that is busy with other tests may starve one run."""


def attempt(once: Callable[[], None]) -> None:
    """Runs it anew where one of its assertions fails; the last of ATTEMPTS runs decides."""
    for _ in range(ATTEMPTS - 1):
        with suppress(AssertionError):
            once()
            return
    once()


def run_earshot(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """To its end."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, env=os.environ | (env or {}), check=False
    )


class EarshotServer:
    """`earshot serve` on a loopback port, with further arguments, more patient than by default
    unless `env` says otherwise; leaving the context stops it."""

    def __init__(
        self, folder: Path, model: str | Path, port: int = 0, *more: str | Path, env: Mapping[str, str] = PATIENT_ENV
    ) -> None:
        self._ready = folder / f"server-{time.monotonic_ns()}.json"
        self._arguments = ["serve", "--port", str(port), "--model", str(model), "--ready-file", str(self._ready)]
        self._arguments += map(str, more)
        self._env = os.environ | dict(env)
        self.url = ""
        self.port = port

    def __enter__(self) -> Self:
        self._process = subprocess.Popen([*COMMAND, *self._arguments], stdout=subprocess.DEVNULL, env=self._env)
        deadline = time.monotonic() + PATIENCE_S
        while not self._ready.exists():
            assert self._process.poll() is None, "the server ended before it was ready"
            assert time.monotonic() < deadline, "the server did not become ready"
            time.sleep(0.05)
        told = json.loads(self._ready.read_text())
        self.url, self.port = told["url"], told["port"]
        return self

    def kill(self) -> None:
        """As the kernel does it, without a word."""
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def drain(self) -> None:
        """Lets it end when everyone has gone elsewhere; its environment sets EARSHOT_DRAIN_S."""
        self._process.terminate()

    def ended(self) -> int:
        """Waits until it has ended; its exit status."""
        return self._process.wait(PATIENCE_S)

    def stand_still(self, seconds: float) -> None:
        """Stops it in the middle of whatever it does, and lets it go on."""
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)


class EarshotCall:
    """`earshot call` in the background; leaving the context ends it."""

    def __init__(self, *arguments: str | Path, report: Path, env: dict[str, str] | None = None) -> None:
        self._command = [*COMMAND, "call", *map(str, arguments), "--report", str(report), "--status-json", "--force"]
        self._env = os.environ | (env or {})
        self._report = report
        self._changed = threading.Condition()
        self.status: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._env
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.status = json.loads(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status for which this holds."""
        with self._changed:
            held = self._changed.wait_for(
                lambda: (bool(self.status) and what(self.status)) or self._process.poll() is not None, PATIENCE_S
            )
            assert held, f"not seen in {PATIENCE_S} s; last: {self.status}"
            assert what(self.status), f"the call ended: {self.status} {self.stderr}"
            return self.status

    @property
    def stderr(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.read()

    def leave(self) -> dict[str, Any]:
        """Ctrl-C; the report."""
        self._process.send_signal(signal.SIGINT)
        return self.finish()

    def finish(self) -> dict[str, Any]:
        """Waits for the call to end by itself; the report."""
        code = self._process.wait(PATIENCE_S)
        assert code == 0, self.stderr
        report: dict[str, Any] = json.loads(self._report.read_text())
        return report

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def hears(name: str) -> Callable[[dict[str, Any]], bool]:
    """Whether sound of this speaker is played, with its age known. One who comes back before others
    know that he left has a number behind his name."""
    return lambda status: any(
        speaker["name"] in (name, f"{name} (2)") and speaker["mouth_to_ear_ms"] is not None
        for speaker in status["speakers"]
    )
