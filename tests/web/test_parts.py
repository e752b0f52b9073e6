"""Small pure parts of the page: links, sample rates, the clock of an AudioContext, sentences."""

from __future__ import annotations

from typing import Any

import pytest

from earshot.client.net.link import make_link, parse_link
from earshot.server.access.keys import Key
from earshot.server.access.tokens import Tokens
from earshot.server.core.grants import Grants
from tests.web.node import run_js

OPEN = ["https://talk.example/#den", "https://talk.example/?room=den", "http://localhost:8765/"]
BAD = ["https://talk.example/?room=a%20b#t.t.t", "https://talk.example/#%E0%A4%A", "https://talk.example/#a/b"]
TONES = [
    {"from": rate, "to": to, "hertz": hertz, "block": block}
    for rate, to, block in ((48_000, 24_000, 128), (44_100, 24_000, 441), (24_000, 48_000, 160), (24_000, 44_100, 128))
    for hertz in (440, 7_000)
]
ALIAS = {"from": 48_000, "to": 24_000, "hertz": 15_000, "block": 128}
"""A tone that the lower rate cannot hold must be gone, not mirrored."""


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    tokens = [
        Tokens(Key("HS256", b"x" * 40)).make(grants)
        for grants in (
            Grants("den", "Zoë ✓"),
            Grants("stage", speak=False),
        )
    ]
    made = [make_link("wss://talk.example/x", "den", token) for token in tokens]
    asked = {"links": [*made, *OPEN, *BAD], "tokens": [*tokens, "", "a.b.c", "x"], "tones": [*TONES, ALIAS]}
    result: dict[str, Any] = run_js("parts.mjs", data=asked)
    return result | {"made": made}


def test_links_lead_where_the_terminal_thinks_they_do(told: dict[str, Any]) -> None:
    for link, page in zip(told["made"], told["links"], strict=False):
        terminal = parse_link(link)
        assert terminal is not None
        assert (page["room"], page["token"]) == (terminal.room, terminal.token)
    read = [(page["room"], page["token"]) for page in told["links"][2:]]
    assert read[:3] == [("den", None), ("den", None), ("", None)]
    assert [room for room, _ in read[3:]] == ["", "", ""]
    assert told["urls"] == [
        "wss://talk.example/x/v1/rooms/den",
        "ws://localhost:8765/v1/rooms/den",
        "https://talk.example/x/#den",
    ]


def test_the_page_reads_what_a_token_allows(told: dict[str, Any]) -> None:
    assert told["claims"] == [
        {"name": "Zoë ✓", "speak": True, "listen": True, "room": "den"},
        {"name": "", "speak": False, "listen": True, "room": "stage"},
        None,
        None,
        None,
    ]


def test_resampling_keeps_tones_and_lets_none_back_in(told: dict[str, Any]) -> None:
    for tone, found in zip([*TONES, ALIAS], told["tones"], strict=True):
        assert abs(found["samples"] - int(str(tone["to"]))) <= 1, tone
        assert found["error"] < 2e-3, tone


def test_the_clock_of_a_context_follows_its_fastest_message_and_its_stops(told: dict[str, Any]) -> None:
    before, after = told["clock"]
    assert before == pytest.approx(5_000_000, abs=1)
    assert after == pytest.approx(5_400_000, abs=1)


def test_every_fault_has_a_sentence_and_what_to_do(told: dict[str, Any]) -> None:
    assert len(told["words"]) == 13
    for words in told["words"]:
        assert words["text"][0].isupper()
        assert words["text"].endswith(".")
        assert words["help"].endswith((".", "TOKEN."))
    assert "localhost:8765" in told["words"][5]["help"]
