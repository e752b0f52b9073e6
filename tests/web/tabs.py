"""Tabs of a real browser, driven by its own protocol (CDP). Playwright keeps every page visible and
in focus, so that a tab cannot be hidden there."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import soundfile
from websockets.sync.client import ClientConnection, connect

from earshot.codec.pcm import Pcm
from tests.web.browser import CHROMIUM, SWITCHES

PATIENCE_S = 60.0


class NotLoaded(Exception):
    """A page that has no document yet runs nothing."""


class Tab:
    """A tab of a window, all tabs of which share it: the one that is shown hides the others."""

    def __init__(self, window: Window, address: str) -> None:
        self._window = window
        self.target = window.call("Target.createTarget", url=address)["targetId"]
        self._session = window.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """Returns the value of an expression in the page."""
        told = self._window.call(
            "Runtime.evaluate", self._session, expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Waits until an expression holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._holds(script):
            assert time.monotonic() < deadline, f"not seen: {script}"
            time.sleep(0.05)

    def _holds(self, script: str) -> bool:
        try:
            return bool(self.run(script))
        except NotLoaded:
            return False

    def show(self) -> None:
        """Brings it to the front of the window."""
        self._window.call("Target.activateTarget", targetId=self.target)


class Window:
    """The window of a browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol."""
        self._number += 1
        asked: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(asked | ({"sessionId": session} if session else {})))
        while True:
            told = json.loads(self._socket.recv(PATIENCE_S))
            if told.get("id") == self._number:
                if "execution context" in told.get("error", {}).get("message", ""):
                    raise NotLoaded(told["error"]["message"])
                assert "error" not in told, told
                return dict(told["result"])


@contextmanager
def window_with(microphone: Pcm, folder: Path) -> Iterator[Window]:
    """A browser whose microphone speaks these samples of 24 kHz again and again."""
    if not CHROMIUM.exists():
        pytest.skip("there is no chromium: apt-get install chromium")
    file = folder / f"microphone-{time.monotonic_ns()}.wav"
    soundfile.write(file, microphone, 24_000, subtype="PCM_16")
    own = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}"]
    own += ["--autoplay-policy=no-user-gesture-required", f"--use-file-for-fake-audio-capture={file}"]
    with subprocess.Popen([CHROMIUM, *SWITCHES, *own], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = next(filter(None, (re.search(r"ws://\S+", line) for line in process.stderr))).group()
            with connect(address, max_size=None) as socket:
                yield Window(socket)
        finally:
            process.terminate()
