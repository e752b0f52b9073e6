"""Text of others, wherever it goes on: to other peers, into errors, onto terminals."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.messages import MAX_ECHO, Hello, parse_client, parse_server
from earshot.protocol.text import clean

HOSTILE = [
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[31m",
    "\x9b31m",
    "a\u202eb\u2066c\u200f",
    "\ud800lone\udfff",
    "one\u2028two\u2029three",
    "\x00\x7f\ufeff\ue000",
    "\x1b" * 10_000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    cleaned = clean(text, 40)
    assert cleaned.replace(" ", "").isprintable()
    assert len(cleaned) <= 40
    cleaned.encode()


@given(st.text(st.characters(exclude_categories=())), st.integers(1, 50))
def test_any_text_is_printable_and_short_afterwards(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    assert len(cleaned) <= limit
    assert cleaned == "" or all(c.isprintable() or c.isspace() for c in cleaned)
    assert not set(cleaned) & set("\n\r\t\x1b\u2028\u2029")
    cleaned.encode()


def test_other_text_stays_as_it_is() -> None:
    for text in ("Zoë said: [bold]no[/x]", "日本語", "a" * 40, ""):
        assert clean(text, 40) == text
    assert clean("one\ntwo\tthree", 40) == "one two three"


def test_a_long_text_is_cut_visibly() -> None:
    assert clean("x" * 10_000, 40) == "x" * 39 + "…"


@pytest.mark.parametrize("text", [text for text in HOSTILE if "\ud800" not in text])
@pytest.mark.parametrize("parse", [parse_client, parse_server])
def test_what_a_message_echoes_is_clean_and_short(parse: object, text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(json.dumps({"type": text[:600]}))  # type: ignore[operator]
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 2 * MAX_ECHO


@pytest.mark.parametrize("digest", [*HOSTILE, "", "0123 4567", "a" * 65, "ünïcode"])
@pytest.mark.parametrize("field", ["model", "also", "entropy"])
def test_a_digest_is_letters_and_digits(field: str, digest: str) -> None:
    value = digest if field == "model" else [digest]
    with pytest.raises(ProtocolError):
        parse_client(json.dumps({"type": "hello", "protocol": 1, field: value}))
    good = "0123456789abcdef"
    assert isinstance(
        parse_client(json.dumps({"type": "hello", "protocol": 1, field: good if field == "model" else [good]})), Hello
    )
