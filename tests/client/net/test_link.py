"""Links that invite into a room."""

from __future__ import annotations

import pytest

from earshot.client.net.link import Link, make_link, parse_link
from earshot.codec.errors import UsageError


@pytest.mark.parametrize(
    ("server", "link"),
    [
        ("ws://127.0.0.1:8765", "http://127.0.0.1:8765/?room=den#a.b.c"),
        ("wss://calls.example.org", "https://calls.example.org/?room=den#a.b.c"),
        ("https://example.org/voice/", "https://example.org/voice/?room=den#a.b.c"),
        ("wss://[::1]:9", "https://[::1]:9/?room=den#a.b.c"),
        ("10.0.0.7:8765", "http://10.0.0.7:8765/?room=den#a.b.c"),
    ],
)
def test_a_link_leads_back(server: str, link: str) -> None:
    assert make_link(server, "den", "a.b.c") == link
    web = link.partition("/?")[0].replace("http", "ws", 1)
    assert parse_link(link) == Link(web, "den", "a.b.c")


def test_a_link_without_a_token() -> None:
    assert parse_link("ws://host:1/?room=den") == Link("ws://host:1", "den", None)


@pytest.mark.parametrize("text", ["den", "", "team-7", "mailto:den", "example.org"])
def test_names_of_rooms_are_no_links(text: str) -> None:
    assert parse_link(text) is None


@pytest.mark.parametrize(
    "text", ["https://host", "https://host/#a.b.c", "https:///?room=den", "ws://h/?room=a&room=b", "https://[/?room=d"]
)
def test_links_that_name_no_room(text: str) -> None:
    with pytest.raises(UsageError, match="names no room"):
        parse_link(text)
