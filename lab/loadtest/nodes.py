"""Nodes and a bus as processes of this machine, which can be killed and started again."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from earshot.codec.errors import EarshotError
from earshot.lab.loadtest.run import child_environment

START_S = 120.0
STOP_S = 70.0


def free_port() -> int:
    """Returns a port of loopback that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Process:
    """A program that runs until the context ends."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = child_environment() | environment
        self._process: subprocess.Popen[bytes] | None = None

    def _run(self, command: list[str]) -> None:
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=self._environment)

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """Ends it as the kernel does, without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """Asks it to end."""
        if self._process is not None:
            self._process.terminate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


class Bus(Process):
    """nats-server."""

    def __init__(self) -> None:
        """Raises EarshotError where there is none."""
        super().__init__({})
        program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise EarshotError("there is no nats-server here: apt-get install nats-server")
        self._program, self.port = program, free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Starts it, also again at the same port. Returns when it answers."""
        self._run([self._program, "--addr", "127.0.0.1", "--port", str(self.port)])
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise EarshotError("nats-server does not answer") from error
                time.sleep(0.02)


class Node(Process):
    """`earshot serve` on the bus."""

    def __init__(
        self, folder: Path, bus: Bus, name: str, model: str, environment: dict[str, str] | None = None
    ) -> None:
        super().__init__({"EARSHOT_DRAIN_S": "60"} | (environment or {}))
        self.name, self.port = name, free_port()
        self.url = f"ws://127.0.0.1:{self.port}"
        self._ready = folder / f"{name}.json"
        self._command = [sys.executable, "-m", "earshot", "serve", "--port", str(self.port), "--model", model]
        self._command += ["--bus", bus.url, "--node", name, "--public-url", self.url]
        self._command += ["--ready-file", str(self._ready), "--log-level", "error"]
        self.digest = ""

    def start(self) -> None:
        """Starts it, also again at the same port."""
        self._ready.unlink(missing_ok=True)
        self._run(self._command)

    def wait(self) -> None:
        """Returns when it takes calls. Raises EarshotError."""
        deadline = time.monotonic() + START_S
        while not self._ready.exists():
            if self.ended or time.monotonic() > deadline:
                raise EarshotError(f"node {self.name} did not start")
            time.sleep(0.02)
        self.digest = str(json.loads(self._ready.read_text("utf-8"))["digest"])

    def wait_for_end(self) -> None:
        """Returns when it has ended. Raises EarshotError."""
        if self._process is None:
            return
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired as error:
            raise EarshotError(f"node {self.name} did not end") from error
