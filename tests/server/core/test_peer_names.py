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
        ("\u0301 \u0308", [], ""),
        ("me (you)", [], "me"),
        ("me (YOU) ( you )", [], "me"),
        ("me (you\u3164)", ["me"], "me (2)"),
        ("me \uff08\uff59\uff4f\uff55\uff09", [], "me"),
        ("peer 3", [], "peer 3 (2)"),
        ("Peer \uff13", ["peer 3 (2)"], "Peer \uff13 (3)"),
        ("peer three", [], "peer three"),
        ("bob", ["bob"], "bob (2)"),
        ("bob", ["bob", "bob (2)"], "bob (3)"),
        ("Bob", ["bob"], "Bob (2)"),
        ("bob\u3164", ["bob"], "bob (2)"),
        ("bob\U000e0100", ["bob"], "bob (2)"),
        ("b\U0001d159ob", ["bob"], "bob (2)"),
        ("x" * 64, ["x" * 64], "x" * 60 + " (2)"),
    ],
)
def test_names_can_be_seen_and_told_apart(name: str, taken: list[str], called: str) -> None:
    assert name_in_room(name, taken) == called
    assert len(called) <= MAX_NAME
