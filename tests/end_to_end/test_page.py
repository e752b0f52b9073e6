"""Calls from the page of a server, in a real browser: what one speaks the other hears, in both
directions, with codes made in the page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Playwright, TimeoutError, sync_playwright

from earshot.codec.audio_files import read_audio
from earshot.codec.pcm import Pcm
from earshot.lab.demo.measure import Comparison, compare
from tests.end_to_end.earshot_process import EarshotCall, EarshotServer, attempt, hears
from tests.waits import Waits
from tests.web.browser import CallPage, Recording, browser_with

RATE = 24_000
TALK_MS = 10_000.0
"""How long two pages talk at each rate."""
SHORT_TALK_MS = 5_000.0
SETTINGS = '{"kbps": 12, "quiet": false}'
"""Silence is sent, so that every gap counts."""
MOST_GAP_S = 0.04
LEAST_COVERAGE, LEAST_SIMILARITY = 0.9, 0.35
STARVED_COVERAGE = 0.5
"""What is heard at least, however long threads had to wait for a processor."""
AROUND_S = 0.1
"""How long before and after a gap that was heard a wait counts which it may come from. A gap lasts
while a thread waits: sound in buffers is played before it, and what comes ends it."""
LATER_S = 1.0
"""How long after it was spoken what is heard is still on its way."""
SWAMPED = 0.4
"""Where a thread waited for this share of the time there is no sound to judge."""
LONG_S = 0.25
"""A second of speech in which a thread waited that long may be lost."""


@pytest.fixture(scope="module")
def play() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EarshotServer]:
    with EarshotServer(tmp_path_factory.mktemp("server"), "default") as running:
        yield running


def address(server: EarshotServer, room: str) -> str:
    return f"{server.url.replace('ws://', 'http://')}/#{room}"


def gaps(heard: Recording) -> list[tuple[int, int]]:
    """Returns the first sample and the length of each silence after the first sound. A decoder's
    own silence is never exactly zero."""
    sounding = np.flatnonzero(heard.pcm)
    lengths = np.diff(sounding) - 1
    return [(int(sounding[i]) + 1, int(lengths[i])) for i in np.flatnonzero(lengths)]


def said_and_heard(spoken: Recording, heard: Recording) -> Comparison:
    assert (spoken.rate, heard.rate) == (RATE, RATE)
    return compare(spoken.pcm, heard.pcm, RATE, spoken.began_us, heard.began_us)


def figures(page: CallPage) -> str:
    names = ["total", "up-codec", "up-wire", "down-codec", "down-wire", "target", "queue", "underruns", "steps"]
    return ", ".join(f"{name} {page.text(name)}" for name in names)


@contextmanager
def not_swamped(waits: Waits) -> Iterator[None]:
    """Skips a test that fails where a machine has hardly let the programs run that it looks at."""
    from_s = time.time()
    try:
        yield
    except (AssertionError, TimeoutError) as failure:
        to_s = time.time()
        waited_s = waits.longest_s(from_s, to_s)
        if waited_s > SWAMPED * (to_s - from_s):
            pytest.skip(f"a thread waited {waited_s:.0f} of {to_s - from_s:.0f} s for a processor: {failure}")
        raise


def judge(spoken: Recording, heard: Recording, waits: Waits) -> None:
    """Checks what a page played (or a terminal, of what the page said). A gap may be longer by the
    time for which a thread waited for a processor then, and no longer."""
    found, worst = said_and_heard(spoken, heard), 0.0
    for first, length in gaps(heard):
        gap_s = length / heard.rate
        waited_s = waits.longest_s(heard.when_s(first) - AROUND_S, heard.when_s(first + length) + AROUND_S)
        worst = max(worst, gap_s)
        assert gap_s <= MOST_GAP_S + waited_s, f"{gap_s:.3f} s without sound, {waited_s:.3f} s without a processor"
    print(f"delay {found.latency_ms} ms, spread {found.spread_ms}, longest gap {1000 * worst:.0f} ms")
    check_words(found, spoken, waits)
    assert found.similarity >= LEAST_SIMILARITY
    assert found.latency_ms is not None
    assert found.latency_ms > 20


def check_words(found: Comparison, spoken: Recording, waits: Waits) -> None:
    """Checks that what was spoken was heard, where threads got a processor."""
    assert found.coverage >= STARVED_COVERAGE
    lost_s = [spoken.when_s(round(piece.start_s * RATE)) for piece in found.pieces if not piece.heard]
    missed = [at for at in lost_s if waits.longest_s(at, at + 1 + LATER_S) < LONG_S]
    assert len(missed) <= (1 - LEAST_COVERAGE) * len(found.pieces)


def test_two_pages_hear_each_other_at_12_and_at_3_kbps(
    play: Playwright, server: EarshotServer, speech: Pcm, tmp_path: Path
) -> None:
    def once() -> None:
        ada, ben = speech[: 9 * RATE], speech[11 * RATE :]
        with browser_with(play, ada, tmp_path) as first, browser_with(play, ben, tmp_path) as second, Waits() as waits:
            one, two = CallPage(first), CallPage(second)
            with not_swamped(waits):
                for page, name in ((one, "Ada"), (two, "Ben")):
                    page.page.add_init_script(f"localStorage.setItem('earshot', '{SETTINGS}')")
                    page.join(address(server, "pages"), name)
                for page, other in ((one, "Ben"), (two, "Ada")):
                    page.page.get_by_text(other, exact=True).wait_for()
                    page.wait_for(lambda page=page: page.text("down-codec") == "12.0", "12 kbps")
                    page.page.evaluate("forgetRecordings()")
                one.page.wait_for_timeout(TALK_MS)
                for page in (one, two):
                    page.page.get_by_role("radio", name="3", exact=True).check()
                for page in (one, two):
                    page.wait_for(lambda page=page: page.text("down-codec") == "3.0", "3 kbps")
                one.page.wait_for_timeout(TALK_MS)
                print(figures(one), figures(two), sep="\n")
                spoken = one.recording("spoken"), two.recording("spoken")
                heard = two.recording("heard"), one.recording("heard")
                for said, got in zip(spoken, heard, strict=True):
                    judge(said, got, waits)
            for page in (one, two):
                assert all(url.startswith(address(server, "").partition("#")[0]) for url in page.requests)
                assert page.errors == []

    attempt(once)


def test_a_page_and_a_terminal_hear_each_other(
    play: Playwright, server: EarshotServer, speech: Pcm, tmp_path: Path
) -> None:
    ben = Path(__file__).parents[2] / "lab" / "voices" / "ben.flac"

    def once() -> None:
        stamp = time.monotonic_ns()
        heard, told = tmp_path / f"heard-{stamp}.wav", tmp_path / f"report-{stamp}.json"
        arguments = [
            "mixed",
            "--model",
            "default",
            "--server",
            server.url,
            "--name",
            "Ben",
            "--input",
            ben,
            "--output",
            heard,
        ]
        with browser_with(play, speech[: 9 * RATE], tmp_path) as browser, Waits() as waits:
            page = CallPage(browser)
            with not_swamped(waits):
                page.join(address(server, "mixed"), "Ada")
                with EarshotCall(*arguments, "--uplink", "codes", report=told) as call:
                    call.wait_for(hears("Ada"))
                    page.page.get_by_text("Ben", exact=True).wait_for()
                    page.wait_for(lambda: page.text("down-codec") == "6.0", "6 kbps of Ben")
                    page.page.evaluate("forgetRecordings()")
                    page.page.wait_for_timeout(SHORT_TALK_MS)
                    spoken, got = page.recording("spoken"), page.recording("heard")
                    report = call.leave()
                # The terminal counts from the start of the machine, the page from 1970.
                shift_us = time.time_ns() // 1000 - time.monotonic_ns() // 1000
                said = Recording(read_audio(ben, RATE), RATE, report["spoken_start_us"] + shift_us)
                ears = Recording(read_audio(heard, RATE), RATE, report["heard_start_us"] + shift_us)
                judge(_while(got, said), got, waits)
                found = said_and_heard(spoken, ears)
                print(f"delay {found.latency_ms} ms, spread {found.spread_ms}")
                check_words(found, spoken, waits)

    attempt(once)


def _while(heard: Recording, said: Recording) -> Recording:
    """Returns the part of what was said that can be in what was heard."""
    start = max(0, round((heard.began_us - said.began_us) * RATE / 1e6))
    part = said.pcm[start : start + heard.pcm.size - RATE // 2]
    return Recording(part, RATE, said.began_us + round(start * 1e6 / RATE))
