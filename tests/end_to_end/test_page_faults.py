"""What can go wrong with a page, each with its plain sentence; and that everybody can use it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Playwright, Route, expect, sync_playwright

from earshot.codec.pcm import Pcm
from earshot.server.access.keys import Key
from earshot.server.access.tokens import Tokens
from earshot.server.core.grants import Grants
from tests.peers import RunningServer, running_server, tiny_model
from tests.web.browser import SWITCHES, CallPage, browser_with

SECRET = "a secret of at least thirty-two characters"
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def play() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(play: Playwright, speech: Pcm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser_with(play, speech[: 3 * 24_000], tmp_path_factory.mktemp("voice")) as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(tiny_model(), allowed_hosts="lan.example") as running:
        yield running


def address(server: RunningServer, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{server.url.rpartition(':')[2]}/"


@pytest.fixture
def caller(browser: Browser) -> Iterator[CallPage]:
    page = CallPage(browser)
    yield page
    page.context.close()


def refuse_microphone(browser: Browser, name: str) -> CallPage:
    """A page whose browser answers getUserMedia as it does where there is none or it is refused."""
    page = CallPage(browser)
    page.page.add_init_script(
        f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', '{name}'))"
    )
    return page


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NotAllowedError", "did not let this page use the microphone"),
        ("NotFoundError", "no microphone on this machine"),
        ("NotReadableError", "cannot be opened"),
    ],
)
def test_without_a_microphone_one_is_told_why_and_may_listen(
    browser: Browser, server: RunningServer, name: str, said: str
) -> None:
    page = refuse_microphone(browser, name)
    page.page.goto(address(server) + "#quiet")
    page.page.get_by_role("button", name="Join").click()
    expect(page.page.get_by_role("alert")).to_contain_text(said)
    page.page.get_by_role("alert").get_by_role("button", name="Only listen").click()
    page.page.locator("#call").wait_for()
    expect(page.page.locator("#people")).to_contain_text("you only listen")
    page.context.close()


def test_a_browser_that_really_refuses_is_understood(play: Playwright, server: RunningServer) -> None:
    switches = [switch for switch in SWITCHES if "fake-ui" not in switch]
    with browser_with(play, None, Path(), "--deny-permission-prompts", base=switches) as strict:
        page = CallPage(strict)
        page.page.goto(address(server) + "#quiet")
        page.page.get_by_role("button", name="Join").click()
        expect(page.page.get_by_role("alert")).to_contain_text("did not let this page use the microphone")


ASKS = """
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    const answered = new Promise((answer) => window.answer = answer);
    navigator.mediaDevices.getUserMedia = (wanted) =>
        answered.then(async () => window.given = await open(wanted));
"""
"""A browser that asks for the microphone until `answer()` is called."""


def test_the_codec_is_loaded_while_the_browser_asks_for_the_microphone(caller: CallPage, server: RunningServer) -> None:
    caller.page.add_init_script(ASKS)
    caller.page.goto(address(server) + "#den")
    caller.page.get_by_role("button", name="Join").click()
    loaded = "performance.getEntriesByName('codec-loaded').length > 0"
    caller.wait_for(lambda: bool(caller.page.evaluate(loaded)), "the codec is loaded")
    expect(caller.page.locator("#loading-what")).to_have_text("Asking for the microphone")
    caller.page.evaluate("answer()")
    caller.page.locator("#call").wait_for()
    caller.wait_for(lambda: caller.text("up-codec") == "6.0", "codes go up")


def test_a_microphone_that_comes_after_the_codec_failed_is_given_back(caller: CallPage, server: RunningServer) -> None:
    caller.page.add_init_script(ASKS)
    caller.context.route("**/v1/weights/*", damaged)
    caller.page.goto(address(server) + "#den")
    caller.page.get_by_role("button", name="Join").click()
    expect(caller.page.get_by_role("alert")).to_contain_text("arrived damaged")
    caller.page.evaluate("answer()")
    given_back = "Boolean(window.given?.getTracks().every((track) => track.readyState === 'ended'))"
    caller.wait_for(lambda: bool(caller.page.evaluate(given_back)), "the microphone is given back")
    expect(caller.page.get_by_role("alert")).to_contain_text("arrived damaged")


def test_a_microphone_that_is_unplugged_is_told_and_another_is_taken(caller: CallPage, server: RunningServer) -> None:
    caller.page.add_init_script("""
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => (window.microphone = await open(wanted));
    """)
    caller.join(address(server) + "#den", "Ada")
    unplug = "for (const track of microphone.getTracks()) track.dispatchEvent(new Event('ended'))"
    caller.page.evaluate(unplug)
    expect(caller.page.get_by_role("status")).to_have_text("The microphone is gone; another one is used now.")
    caller.page.evaluate(
        f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotFoundError')); {unplug}"
    )
    expect(caller.page.get_by_role("alert")).to_contain_text("The microphone is gone.")


def test_plain_http_from_another_machine_is_explained(play: Playwright, server: RunningServer) -> None:
    with browser_with(play, None, Path(), "--host-resolver-rules=MAP lan.example 127.0.0.1") as elsewhere:
        page = CallPage(elsewhere)
        page.page.goto(address(server, "lan.example") + "#den")
        alert = page.page.get_by_role("alert")
        expect(alert).to_contain_text("only if it came over https")
        expect(alert).to_contain_text(address(server, "localhost").rstrip("/"))
        expect(alert).to_contain_text("--tls self-signed")


def damaged(route: Route) -> None:
    answer = route.fetch()
    body = bytearray(answer.body())
    body[len(body) // 2] ^= 1
    route.fulfill(response=answer, body=bytes(body))


def test_damaged_weights_are_found_out(caller: CallPage, server: RunningServer) -> None:
    """On the way, and in the browser's cache, from where they are fetched once more."""
    caller.context.route("**/v1/weights/*", damaged)
    caller.page.goto(address(server) + "#den")
    caller.page.get_by_role("button", name="Join").click()
    expect(caller.page.get_by_role("alert")).to_contain_text("arrived damaged")
    caller.context.unroute("**/v1/weights/*")
    caller.page.get_by_role("alert").get_by_role("button", name="Try again").click()
    caller.page.locator("#call").wait_for()
    assert _cached(caller.page, damage=True) == 1
    caller.page.get_by_role("button", name="Leave").click()
    fetched = len([url for url in caller.requests if "/v1/weights/" in url])
    caller.page.get_by_role("button", name="Join").click()
    caller.page.locator("#call").wait_for()
    assert len([url for url in caller.requests if "/v1/weights/" in url]) == fetched + 1
    caller.page.get_by_role("button", name="Leave").click()
    caller.page.get_by_role("button", name="Join").click()
    caller.page.locator("#call").wait_for()
    assert len([url for url in caller.requests if "/v1/weights/" in url]) == fetched + 1


def _cached(page: Page, damage: bool) -> int:
    """Counts what is in the cache of weights, and damages it."""
    return int(
        page.evaluate(
            """async (damage) => {
                const cache = await caches.open("earshot-weights"), kept = await cache.keys();
                for (const key of damage ? kept : []) {
                    const bytes = new Uint8Array(await (await cache.match(key)).arrayBuffer());
                    bytes[bytes.length >> 1] ^= 1;
                    await cache.put(key, new Response(bytes));
                }
                return kept.length;
            }""",
            damage,
        )
    )


def test_it_goes_on_by_itself_when_the_server_was_restarted(caller: CallPage) -> None:
    with ExitStack() as first:
        running = first.enter_context(running_server(tiny_model()))
        port = int(running.url.rpartition(":")[2])
        caller.join(address(running) + "#den", "Ada")
        first.close()
    expect(caller.page.locator("#state")).to_have_text("trying again")
    expect(caller.page.get_by_role("alert")).to_contain_text("tries again by itself")
    with running_server(tiny_model(), port=port):
        expect(caller.page.locator("#state")).to_have_text("connected")
        expect(caller.page.get_by_role("alert")).to_be_hidden()
        caller.wait_for(lambda: caller.text("up-codec") == "6.0", "codes go up again")


def test_links_with_tokens_let_in_and_others_do_not(browser: Browser, caller: CallPage) -> None:
    tokens = Tokens(Key("HS256", SECRET.encode()))
    with running_server(tiny_model(), tokens=True, token_key=SECRET) as server:
        caller.page.goto(address(server) + "#den")
        caller.page.get_by_role("button", name="Join").click()
        expect(caller.page.get_by_role("alert")).to_contain_text("Ask whoever invited you for a link")
        invited, listener = CallPage(browser), CallPage(browser)
        invited.page.goto(f"{address(server)}?room=den#{tokens.make(Grants('den', name='Zoë'))}")
        invited.page.get_by_role("button", name="Join").click()
        expect(invited.page.locator("#people")).to_contain_text("Zoë (you)")
        listener.page.goto(f"{address(server)}?room=den#{tokens.make(Grants('den', name='Bo', speak=False))}")
        expect(listener.page.get_by_role("button", name="Join")).to_be_hidden()
        listener.page.get_by_role("button", name="Only listen").click()
        expect(invited.page.locator("#people")).to_contain_text("Bo")
        assert not any(SECRET in url or "eyJ" in url.partition("#")[0] for url in invited.requests)
        moderator = CallPage(browser)
        moderator.page.goto(f"{address(server)}?room=den#{tokens.make(Grants('den', name='Mo', moderate=True))}")
        moderator.page.get_by_role("button", name="Join").click()
        moderator.page.get_by_role("button", name="Mute Zoë").click()
        expect(invited.page.locator("#people")).to_contain_text("Mo muted you")
        expect(invited.page.locator("#mute")).to_be_disabled()
        moderator.page.get_by_label("Let nobody else in").check()
        moderator.page.get_by_role("button", name="Remove Bo").click()
        expect(listener.page.get_by_role("alert")).to_contain_text("removed")
        for page in (invited, listener, moderator):
            page.context.close()


def test_keys_mute_and_hold_to_talk(caller: CallPage, server: RunningServer) -> None:
    caller.join(address(server) + "#keys", "Ada")
    mute = caller.page.get_by_role("button", name=re.compile("mute|hold to talk|talking", re.I))
    expect(mute).to_have_attribute("aria-pressed", "false")
    caller.page.keyboard.press("m")
    expect(mute).to_have_attribute("aria-pressed", "true")
    caller.wait_for(lambda: caller.text("up-codec") == "0.0", "no codes go up while muted")
    caller.wait_for(lambda: float(caller.text("up-wire")) < 2, "nothing but pings goes up while muted")
    caller.page.keyboard.press("m")
    caller.page.get_by_label("Push to talk").check()
    expect(mute).to_have_text(re.compile("Hold to talk"))
    caller.page.locator("body").click(position={"x": 5, "y": 5})
    caller.page.keyboard.down(" ")
    expect(mute).to_have_text(re.compile("Talking"))
    caller.wait_for(lambda: caller.text("up-codec") == "6.0", "codes go up while space is held")
    caller.page.keyboard.up(" ")
    expect(mute).to_have_text(re.compile("Hold to talk"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_no_serious_finding(browser: Browser, server: RunningServer, scheme: Any) -> None:
    page = CallPage(browser, color_scheme=scheme)
    page.page.goto(address(server) + "#axe")
    found = [("join", Axe().run(page.page).response)]
    page.join(address(server) + "#axe", "Ada")
    other = CallPage(browser)
    other.join(address(server) + "#axe", "Ben")
    page.page.get_by_text("Ben", exact=True).wait_for()
    page.wait_for(lambda: page.text("down-codec") == "6.0", "Ben is heard")
    found.append(("call", Axe().run(page.page).response))
    for where, told in found:
        serious = [
            (one["id"], [node["html"][:200] for node in one["nodes"]])
            for one in told["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], where
    for one in (page, other):
        one.context.close()
