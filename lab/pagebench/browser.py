"""A Chromium without a window, whose microphone speaks a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from earshot.codec.errors import UsageError

NAMES = ("chromium", "google-chrome", "chrome", "chromium-browser")
SWITCHES = (
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)


@contextmanager
def open_browser(microphone: Path) -> Iterator[Browser]:
    """Opens a browser of this machine whose microphone speaks a WAV file again and again.

    Raises UsageError where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise UsageError(f"there is no browser here; one of {', '.join(NAMES)} is needed")
    switches = [*SWITCHES, f"--use-file-for-fake-audio-capture={microphone}"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=switches, chromium_sandbox=False)
        try:
            yield browser
        finally:
            browser.close()
