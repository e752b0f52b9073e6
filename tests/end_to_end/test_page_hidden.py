"""A page in the background: in a tab that is not shown it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from earshot.codec.pcm import Pcm
from tests.peers import RunningServer, running_server, tiny_model
from tests.web.browser import CallPage, browser_with
from tests.web.tabs import Tab, window_with

RATE = 24_000
HIDDEN_S = 5.0
"""A browser draws nothing of a hidden page from the first moment. What else it does within minutes,
to its timers, it does not do to pages that play sound."""


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(tiny_model()) as running:
        yield running


@pytest.fixture
def browser(speech: Pcm, tmp_path: Path) -> Iterator[Browser]:
    with sync_playwright() as play, browser_with(play, speech[: 3 * RATE], tmp_path) as running:
        yield running


def address(server: RunningServer, room: str) -> str:
    return f"{server.url.replace('ws://', 'http://')}/#{room}"


def missed(page: CallPage) -> str:
    """Returns how many frames of others a page has never got; what it shows of its own is left
    out."""
    return page.text("lost").partition(" in")[0]


def test_a_tab_that_is_not_shown_goes_on(browser: Browser, server: RunningServer, speech: Pcm, tmp_path: Path) -> None:
    with window_with(speech[: 3 * RATE], tmp_path) as window:
        ada, ben = Tab(window, address(server, "hidden")), CallPage(browser)
        ada.run("document.getElementById('name').value = 'Ada'; document.getElementById('enter').click()")
        ada.wait_for("!document.getElementById('call').hidden")
        ben.join(address(server, "hidden"), "Ben")
        hears = "document.getElementById('down-codec').textContent === '6.0'"
        ada.wait_for(hears)
        ben.wait_for(lambda: ben.text("down-codec") == "6.0", "Ada is heard")
        ada.run("window.drawn = 0; (function draw() { drawn++; requestAnimationFrame(draw); })()")
        lost = missed(ben)
        Tab(window, "data:text/html,<title>other</title>").show()
        ada.wait_for("document.visibilityState === 'hidden'")
        drawn = ada.run("drawn")
        ben.page.wait_for_timeout(1000 * HIDDEN_S)
        ada.wait_for(hears)
        ben.wait_for(lambda: ben.text("down-codec") == "6.0", "Ada is heard while her tab is hidden")
        assert ada.run("drawn") - drawn <= 1
        ada.show()
        ada.wait_for("document.visibilityState === 'visible'")
        assert ada.run("document.getElementById('state').textContent") == "connected"
        assert missed(ben) == lost
        assert ada.run("performance.getEntriesByName('joined').length") == 1
