"""Signs of silence: golden bytes written by hand from docs/protocol.md, and bytes that nobody
should send."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.packet import PcmBlock
from earshot.protocol.short_headers import LinkReader, LinkWriter
from earshot.protocol.silence import BANDS, Silence, encode_silence_down, encode_silence_up

HOP = 320
GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden.json").read_text("utf-8"))


def meant(entry: dict[str, Any]) -> list[Silence]:
    return [Silence(**one | {"levels": bytes.fromhex(one["levels"])}) for one in entry["entries"]]


def read(reader: LinkReader, entry: dict[str, Any], data: bytes) -> Any:
    return reader.up(data) if entry["direction"] == "up" else reader.down(data)


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("entry", GOLDEN["silence"], ids=lambda entry: entry["name"])
def test_golden_bytes(entry: dict[str, Any], short: bool) -> None:
    data, expected = bytes.fromhex(entry["hex"]), meant(entry)
    found = read(LinkReader(HOP, short, silence=True), entry, data)
    if entry["direction"] == "up":
        assert [found] == expected
        assert encode_silence_up(expected[0]) == data
    else:
        assert found == expected
        assert LinkWriter(HOP, short).down(expected) == [data] == [encode_silence_down(expected)]
    for size in range(len(data)):
        with pytest.raises(ProtocolError):
            read(LinkReader(HOP, short, silence=True), entry, data[:size])
    with pytest.raises(ProtocolError, match="unknown binary message type"):
        read(LinkReader(HOP, short, silence=False), entry, data)


@pytest.mark.parametrize("entry", GOLDEN["malformed_silence"], ids=lambda entry: entry["name"])
def test_golden_malformed(entry: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(LinkReader(HOP), entry, bytes.fromhex(entry["hex"]))
    assert caught.value.code == CloseCode.MALFORMED


def test_silence_stands_apart_from_sound() -> None:
    silence, block = Silence(3, 960, bytes(BANDS), 7), PcmBlock(3, 0, 0, bytes(640))
    first, second = LinkWriter(HOP).down([silence, block])
    assert (LinkReader(HOP).down(first), LinkReader(HOP).down(second)) == ([block], [silence])


@given(st.binary(max_size=40))
def test_only_protocol_errors_escape(noise: bytes) -> None:
    for kind in (b"\7", b"\x08"):
        reader = LinkReader(HOP)
        for take in (reader.up, reader.down):
            with contextlib.suppress(ProtocolError):
                take(kind + noise)
