"""Two pages in one room of a real server: how fast they load, and how old the sound is when it is
heard."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page

from earshot.lab.children import start_server

SETTLE_MS = 4000.0
"""Until packets hold as many frames as they should and jitter buffers know their delay."""
EVERY_MS = 100
PATIENCE_MS = 60_000.0
LOADED = """() => {
    const [page] = performance.getEntriesByType("navigation"), at = (name) => performance.getEntriesByName(name)[0];
    return { page: page.loadEventEnd, joining: at("codec-ready").startTime - at("bench-click").startTime,
        codec: at("codec-loaded").detail };
}"""
WATCH = """every => {
    window.totals = [];
    setInterval(() => totals.push(parseFloat(document.getElementById("total").textContent)), every);
}"""
SHOWN = ("target", "queue", "underruns", "steps", "share", "up-wire", "down-wire")


@dataclass(frozen=True)
class Load:
    """How long it took until a page could talk, in milliseconds."""

    page_ms: float
    """Until the page was loaded."""
    joining_ms: float
    """From the click on "Join" until module and weights were there and packed."""
    codec: dict[str, Any]
    """What the page says of that (web/call/worker.js, "loaded")."""

    @property
    def total_ms(self) -> float:
        return self.page_ms + self.joining_ms


@dataclass(frozen=True)
class CallRun:
    """A call between two pages."""

    latency: str
    first: Load
    """With an empty cache."""
    again: Load
    mouth_to_ear_ms: tuple[float, ...]
    """What both pages said ten times a second."""
    stages: str
    shown: tuple[dict[str, str], ...]
    """Figures that each page shows at the end."""

    def mouth_to_ear(self, point: float) -> float:
        """Returns a percentile, in milliseconds."""
        return float(np.percentile(self.mouth_to_ear_ms, point))


def measure_call(browser: Browser, latency: str, seconds: float) -> CallRun:
    """Lets two pages of one browser talk to each other for a while.

    Raises ChildError if the server fails."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="earshot-")))
        _, url = start_server(stack, folder, "default")
        address = url.replace("ws://", "http://") + "/#bench"
        pages = [_open(browser, address, latency) for _ in range(2)]
        loads = [_join(page, address, name) for page, name in zip(pages, ("Ada", "Ben"), strict=True)]
        pages[1].get_by_role("button", name="Leave").click()
        pages[1].locator("#join").wait_for()
        again = _join(pages[1], address, "Ben")
        for page in pages:
            page.locator("#total").filter(has_text="ms").wait_for()
        pages[0].wait_for_timeout(SETTLE_MS)
        for page in pages:
            page.evaluate(WATCH, EVERY_MS)
        pages[0].wait_for_timeout(seconds * 1000)
        totals = [total for page in pages for total in page.evaluate("() => totals") if total is not None]
        stages = pages[0].locator("#stages").inner_text().replace("\n", " ")
        shown = tuple({name: page.locator(f"#{name}").inner_text() for name in SHOWN} for page in pages)
        for page in pages:
            page.context.close()
    return CallRun(latency, loads[0], again, tuple(totals), stages, shown)


def _open(browser: Browser, address: str, latency: str) -> Page:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.add_init_script(f"localStorage.setItem('earshot', '{json.dumps({'latency': latency})}')")
    return page


def _join(page: Page, address: str, name: str) -> Load:
    page.goto("about:blank")
    page.goto(address)
    page.get_by_label("Your name").fill(name)
    page.evaluate("() => performance.mark('bench-click')")
    page.get_by_role("button", name="Join").click()
    page.locator("#call").wait_for()
    told = page.evaluate(LOADED)
    return Load(float(told["page"]), float(told["joining"]), dict(told["codec"]))
