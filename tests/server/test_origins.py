"""Which web pages and which names of this server are let in."""

from __future__ import annotations

import pytest

from earshot.server.origins import is_own_host, is_own_origin

ALLOWED = frozenset({"https://calls.example.org"})


@pytest.mark.parametrize(
    ("origins", "host", "own"),
    [
        ([], "server:8765", True),
        ([], None, True),
        (["http://server:8765"], "server:8765", True),
        (["HTTPS://Server"], "server", True),
        (["https://calls.example.org"], "server:8765", True),
        (["http://server:1"], "server:8765", False),
        (["http://evil.example"], "server:8765", False),
        (["http://server:8765", "http://evil.example"], "server:8765", False),
        (["http://server:8765.evil.example"], "server:8765", False),
        (["null"], "server:8765", False),
        (["null"], None, False),
        ([""], None, False),
        (["http://[x"], "server", False),
    ],
)
def test_an_origin_must_be_the_host_or_allowed(origins: list[str], host: str | None, own: bool) -> None:
    assert is_own_origin(origins, host, ALLOWED) is own


@pytest.mark.parametrize(
    ("host", "local", "own"),
    [
        ("localhost:8765", "127.0.0.1", True),
        ("127.0.0.1:8765", "127.0.0.1", True),
        ("[::1]:8765", "::1", True),
        (None, "127.0.0.1", True),
        ("Allowed.example", "127.0.0.1", True),
        ("evil.example:8765", "127.0.0.1", False),
        ("localhost.evil.example", "::1", False),
        ("[x", "127.0.0.1", False),
        ("evil.example", "192.0.2.1", True),
        ("evil.example", "", True),
    ],
)
def test_a_name_that_was_made_to_point_at_loopback_is_foreign(host: str | None, local: str, own: bool) -> None:
    assert is_own_host(host, local, {"allowed.example"}) is own
