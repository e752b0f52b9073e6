"""Pages of a real browser with made microphones, for tests of calls."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright

from earshot.codec.pcm import Pcm

CHROMIUM = Path("/usr/bin/chromium")
RECORDER = Path(__file__).with_name("recorder.js")
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
PATIENCE_MS = 60_000.0


@dataclass(frozen=True)
class Recording:
    """What went through a page: `pcm` of `rate`, whose first sample was there at `began_us`."""

    pcm: Pcm
    rate: int
    began_us: int
    starts_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """When, in seconds since 1970, each part of `part` samples was there, where this is known: a
    browser that gets no processor stands still, and its sound with it."""
    part: int = 0

    def when_s(self, sample: int) -> float:
        """Returns when a sample was there, in seconds since 1970."""
        if not self.part:
            return self.began_us / 1e6 + sample / self.rate
        number = min(sample // self.part, self.starts_s.size - 1)
        return float(self.starts_s[number]) + (sample - number * self.part) / self.rate


@contextmanager
def browser_with(
    play: Playwright, microphone: Pcm | None, folder: Path, *more: str, base: Sequence[str] = SWITCHES
) -> Iterator[Browser]:
    """A browser whose microphone speaks these samples of 24 kHz again and again."""
    if not CHROMIUM.exists():
        pytest.skip("there is no chromium: apt-get install chromium")
    switches = [*base, *more]
    if microphone is not None:
        file = folder / f"microphone-{time.monotonic_ns()}.wav"
        soundfile.write(file, microphone, 24_000, subtype="PCM_16")
        switches.append(f"--use-file-for-fake-audio-capture={file}")
    browser = play.chromium.launch(executable_path=CHROMIUM, args=switches, chromium_sandbox=False)
    try:
        yield browser
    finally:
        browser.close()


class CallPage:
    """The page of a server, as somebody uses it."""

    def __init__(self, browser: Browser, **settings: Any) -> None:
        self.context = browser.new_context(**settings)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self.context.new_page()
        self.page.add_init_script(path=RECORDER)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.context.on("request", lambda request: self.requests.append(request.url))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.type}: {message.text}")

    def join(self, address: str, name: str, speaks: bool = True) -> None:
        """Opens a link, gives a name and joins."""
        self.page.goto(address)
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_role("button", name="Join" if speaks else "Only listen").click()
        self.page.locator("#call").wait_for()

    def text(self, name: str) -> str:
        """Returns what an element shows, by its id."""
        return self.page.locator(f"#{name}").inner_text()

    def wait_for(self, what: Callable[[], bool], said: str) -> None:
        """Waits until something holds."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not what():
            assert time.monotonic() < deadline, f"not seen: {said}; errors of the page: {self.errors}"
            self.page.wait_for_timeout(50)

    def recording(self, what: str) -> Recording:
        """Returns what was "spoken" into the page or "heard" from it so far."""
        told = self.page.evaluate("what => takeRecording(what)", what)
        pcm = np.frombuffer(base64.b64decode(told["pcm"]), np.float32)
        rate, (part,) = int(told["rate"]), set(told["sizes"])
        starts = np.asarray(told["ends"]) - part / rate
        # What was read late was there as soon as what was read after it says.
        places = np.arange(starts.size) * part / rate
        starts = np.minimum.accumulate((starts - places)[::-1])[::-1] + places
        return Recording(pcm, rate, round(starts[0] * 1e6), starts, part)
