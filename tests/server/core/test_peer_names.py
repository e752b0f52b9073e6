"""What peers are called in a room."""

from __future__ import annotations

import pytest

from earshot.server.core.peer_names import MAX_NAME, name_in_room


@pytest.mark.parametrize(
    ("name", "taken", "called"),
    [
        ("Zoë 李 🎧", [], "Zoë 李 🎧"),
        ("\u3164", [], ""),
        (" \u2800 \uffa0", ["a"], ""),
        ("", ["", ""], ""),
        ("me (you)", [], "me"),
        ("me (YOU) ( you )", [], "me"),
        ("me (you\u3164)", ["me"], "me (2)"),
        ("bob", ["bob"], "bob (2)"),
        ("bob", ["bob", "bob (2)"], "bob (3)"),
        ("Bob", ["bob"], "Bob (2)"),
        ("bob\u3164", ["bob"], "bob (2)"),
        ("x" * 64, ["x" * 64], "x" * 60 + " (2)"),
    ],
)
def test_names_can_be_seen_and_told_apart(name: str, taken: list[str], called: str) -> None:
    assert name_in_room(name, taken) == called
    assert len(called) <= MAX_NAME
