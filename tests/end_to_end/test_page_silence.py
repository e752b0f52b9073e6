"""Silence that a page does not send, and a way to have it sent."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from playwright.sync_api import expect, sync_playwright

from tests.peers import running_server, tiny_model
from tests.web.browser import CallPage, browser_with

HISS = np.asarray(np.random.default_rng(0).standard_normal(48_000) * 1e-3, np.float32)


def test_a_silent_page_sends_hardly_anything_unless_it_is_told_to(tmp_path: Path) -> None:
    with (
        running_server(tiny_model()) as server,
        sync_playwright() as play,
        browser_with(play, HISS, tmp_path) as browser,
    ):
        address = server.url.replace("ws://", "http://") + "/#hush"
        ada, ben = CallPage(browser), CallPage(browser)
        for page, name in ((ada, "Ada"), (ben, "Ben")):
            page.join(address, name)
        for page in (ada, ben):
            page.wait_for(lambda page=page: page.text("up-codec") == "0.0", "no codes go up")
            page.wait_for(lambda page=page: float(page.text("up-wire")) < 2, "hardly anything goes up")
            page.wait_for(lambda page=page: page.text("down-codec") == "0.0", "no codes come down")
        expect(ada.page.locator("#people")).to_contain_text("silent")
        underruns = ada.text("underruns")  # a busy machine may have had some before
        time.sleep(1)
        assert ada.text("underruns") == underruns
        ben.page.get_by_label("Send no silence").uncheck()
        ada.wait_for(lambda: ada.text("down-codec") == "6.0", "Ben's silence is sent now")
        ben.wait_for(lambda: float(ben.text("up-wire")) > 10, "Ben's silence goes up")
