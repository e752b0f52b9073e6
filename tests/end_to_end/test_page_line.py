"""A page whose line is bad: it takes its seat again where its socket breaks, and says less where
the line takes no more."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from playwright.sync_api import expect, sync_playwright

from earshot.codec.pcm import Pcm
from earshot.protocol.messages import PeerLeft
from tests.peers import PATIENCE_S, RunningServer, TestPeer, join, running_server, tiny_model
from tests.pipe import Pipe, pipe_beside
from tests.web.browser import CallPage, browser_with

RATE = 24_000
expect.set_options(timeout=60_000)
TALK_FRAMES = 60 * 75
MARK = "() => document.querySelectorAll('#people > *').forEach((tile) => { tile.known = true; })"
MARKED = "() => [...document.querySelectorAll('#people > *')].map((tile) => tile.known === true)"
Result = TypeVar("Result")


def on(server: RunningServer, work: Coroutine[object, object, Result]) -> Result:
    """Runs something in the server's thread."""
    return asyncio.run_coroutine_threadsafe(work, server.loop).result(PATIENCE_S)


async def _talking(peer: TestPeer) -> asyncio.Task[None]:
    return asyncio.create_task(peer.talk(np.random.default_rng(0).integers(0, 1024, (8, TALK_FRAMES))))


async def _end(peer: TestPeer, talk: asyncio.Task[None]) -> None:
    talk.cancel()
    await peer.leave()


@contextmanager
def on_a_pipe(speech: Pcm, folder: Path, settings: str) -> Iterator[tuple[RunningServer, Pipe, CallPage, TestPeer]]:
    """A page that talks through a pipe to a peer that talks, too."""
    with (
        running_server(tiny_model()) as server,
        pipe_beside(server) as pipe,
        sync_playwright() as play,
        browser_with(play, speech[: 3 * RATE], folder) as browser,
    ):
        ada = CallPage(browser)
        ada.page.add_init_script(f"localStorage.setItem('earshot', JSON.stringify({settings}))")
        ada.join(f"{pipe.url.replace('ws://', 'http://')}/#line", "Ada")
        ben = on(server, join(server, "line", want="codes"))
        talk = on(server, _talking(ben))
        ada.wait_for(lambda: ada.text("down-codec") == "6.0", "Ben is heard")
        ada.wait_for(lambda: len(ben.heard) == 1, "Ada is heard")
        yield server, pipe, ada, ben
        on(server, _end(ben, talk))


def test_a_page_goes_on_in_its_seat_after_its_socket_broke(speech: Pcm, tmp_path: Path) -> None:
    with on_a_pipe(speech, tmp_path, "{quiet: false}") as (server, pipe, ada, ben):
        (line,) = ben.heard.values()
        ada.page.evaluate(MARK)
        assert {packet.n_q for packet in line.packets} == {8}
        before = line.frames
        server.call_soon(pipe.cut)
        expect(ada.page.locator("#state")).to_have_text("trying again")
        expect(ada.page.locator("#state")).to_have_text("connected")
        ada.wait_for(lambda: line.frames > before + 150, "Ada is heard again")
        ada.wait_for(lambda: ada.text("down-codec") == "6.0", "Ben is heard again")
        assert server.hub.seats.resumed == 1
        assert ada.page.evaluate(MARKED) == [True, True]  # nobody left, and nobody came
        assert ben.of(PeerLeft) == []
        assert len(ben.heard) == 1
        assert {packet.n_q for packet in line.packets} == {2, 8}  # what was lost on the way was sent again


def test_a_page_says_less_where_the_line_takes_no_more(speech: Pcm, tmp_path: Path) -> None:
    with on_a_pipe(speech, tmp_path, "{quiet: false}") as (server, pipe, ada, ben):
        (line,) = ben.heard.values()
        assert {packet.n_q for packet in line.packets} == {8}
        server.call_soon(pipe.stand_still)
        expect(ada.page.locator("#people")).to_contain_text("1.5 kbps · the line is slow")
        server.call_soon(pipe.flow)
        ada.wait_for(lambda: any((packet.n_q, packet.frames) == (2, 6) for packet in line.packets), "less is said")
