"""Other `earshot` commands as child processes that are watched while they run and never left
behind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from earshot.codec.errors import EarshotError

START_S = 120.0
"""Until a process is ready: on a machine that has never run torch, reading it from disk takes most
of a minute."""
WATCH_S = 0.05
TERMINATE_S = 5.0
"""From asking a child to end until it is killed."""
KEPT_LINES = 20
MAX_LINE = 1 << 16


class ChildError(EarshotError):
    """A command that this one started has failed; the message ends with the last that it said."""


class Child:
    """`earshot ARGUMENTS` in a process of its own. As a context it ends with the context, in
    whatever way that ends.

    `status` is the last line of JSON that it printed; what it writes to standard error is kept for
    `check`."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        space: str | None = None,
        module: str = "earshot",
    ) -> None:
        """Starts it. `environment` replaces the environment of this process. `space` is a network
        namespace to run in (Linux, root), and `module` another module than that of the command."""
        inside = [] if space is None else ["ip", "netns", "exec", space]
        self.name = name
        self.status: dict[str, Any] = {}
        self._said: deque[str] = deque(maxlen=KEPT_LINES)
        self._process = subprocess.Popen(
            [*inside, sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
        )
        self._readers = [
            threading.Thread(target=read, args=[pipe], name=f"{name} output", daemon=True)
            for read, pipe in ((self._read_status, self._process.stdout), (self._read_errors, self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def said(self) -> str:
        """Returns the end of what it wrote to standard error."""
        return "\n".join(self._said)

    def check(self, ended: bool = False) -> None:
        """Raises ChildError if it has failed, or if it has `ended` where it should not have."""
        status = self._process.poll()
        if status is None or (status == 0 and not ended):
            return
        for reader in self._readers:
            reader.join(1)
        how = f"ended with status {status}" if status >= 0 else f"was ended by signal {-status}"
        said = f":\n{self.said}" if self._said else " and said nothing"
        raise ChildError(f"{self.name} {how}{said}")

    def stop(self) -> None:
        """Asks it to end, and makes it."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(TERMINATE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for reader in self._readers:
            reader.join(1)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _read_status(self, pipe: IO[str]) -> None:
        while line := pipe.readline(MAX_LINE):
            try:
                status = json.loads(line)
            except ValueError:
                continue
            if isinstance(status, dict):
                self.status = status

    def _read_errors(self, pipe: IO[str]) -> None:
        while line := pipe.readline(MAX_LINE):
            if line.strip():
                self._said.append(line.rstrip()[:500])


def wait_until(condition: Callable[[], Any], *children: Child, within_s: float = START_S) -> None:
    """Waits until something holds. Raises ChildError if one of the children ends before, or if it
    takes too long, in the name of the first of them."""
    deadline = time.monotonic() + within_s
    while not condition():
        for child in children:
            child.check(ended=True)
        if time.monotonic() > deadline:
            raise ChildError(f"{children[0].name} took more than {within_s:g} s\n{children[0].said}")
        time.sleep(WATCH_S)


def start_server(
    stack: ExitStack,
    folder: Path,
    model: str,
    environment: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
    space: str | None = None,
) -> tuple[Child, str]:
    """Starts a server on a free port of this machine, which ends with the stack. `host` and `space`
    are where it is reached.

    Returns it and its URL once it takes calls. `folder` is for a temporary file. Raises ChildError
    if the server ends or does not get ready."""
    ready = folder / "server.json"
    arguments = ["serve", "--host", host, "--port", "0", "--ready-file", str(ready), "--model", model]
    arguments += [] if space is None else ["--open"]
    server = stack.enter_context(Child("the server", arguments, environment, space))
    wait_until(ready.exists, server)
    return server, str(json.loads(ready.read_text("utf-8"))["url"])
