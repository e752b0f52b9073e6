"""Short headers: golden bytes written by hand from docs/protocol.md, any packets there and back,
and bytes that nobody should send."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.codec.bitstream import pack
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.packet import CodedPacket, Packet, PcmBlock, Trace, decode_down, decode_up, encode_codes_up
from earshot.protocol.short_headers import LinkReader, LinkWriter

HOP = 320
GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden.json").read_text("utf-8"))


def codes(n_q: int, frames: int, sequence: int = 0, timestamp: int = 0, **more: Any) -> Packet:
    return Packet(n_q, frames, sequence, timestamp, pack(np.full((n_q, frames), 513)), **more)


@pytest.mark.parametrize("entry", GOLDEN["short_headers"], ids=lambda entry: entry["name"])
def test_golden_bytes(entry: dict[str, Any]) -> None:
    """Each message means what the message with long headers beside it means."""
    writer, reader, up = LinkWriter(HOP), LinkReader(HOP), entry["direction"] == "up"
    for message in entry["messages"]:
        data, plain = bytes.fromhex(message["hex"]), bytes.fromhex(message["plain"])
        meant: Any = decode_up(plain) if up else decode_down(plain)
        assert (reader.up(data) if up else reader.down(data)) == meant
        assert ([writer.up(meant)] if up else writer.down(meant)) == [data]


@pytest.mark.parametrize("entry", GOLDEN["malformed_short_headers"], ids=lambda entry: entry["name"])
def test_golden_malformed(entry: dict[str, Any]) -> None:
    reader = LinkReader(HOP)
    read = reader.up if entry["direction"] == "up" else reader.down
    *before, last = map(bytes.fromhex, entry["messages"])
    for message in before:
        read(message)
    with pytest.raises(ProtocolError) as caught:
        read(last)
    assert caught.value.code == CloseCode.MALFORMED


@st.composite
def any_packet(draw: st.DrawFn) -> Packet | CodedPacket:
    source, trace = draw(st.sampled_from([1, 2, 257])), draw(st.sampled_from([None, Trace(7, 1, 2, 3, 4)]))
    n_q, frames = draw(st.sampled_from([2, 8])), draw(st.sampled_from([1, 3, 8, 9]))
    sequence, timestamp = (
        draw(st.sampled_from([0, 1, 3, 65_535])),
        draw(st.sampled_from([0, 320, 960, (1 << 32) - 320])),
    )
    match draw(st.sampled_from(["plain", "plain", "coded", "window"])):
        case "coded" if frames <= 8:
            return CodedPacket(n_q, frames, sequence, timestamp, b"abc", draw(st.booleans()), trace, source)
        case "window":
            return codes(n_q, frames, sequence, timestamp, trace=trace, source=source, scale=0.5)
        case _:
            return codes(n_q, frames, sequence, timestamp, trace=trace, source=source)


@given(st.lists(st.lists(any_packet(), min_size=1, max_size=3), max_size=8))
def test_whatever_goes_in_comes_out(messages: list[list[Packet | CodedPacket]]) -> None:
    writer, reader = LinkWriter(HOP), LinkReader(HOP)
    for packets in messages:
        (message,) = writer.down(packets)
        assert reader.down(message) == packets
    writer, reader = LinkWriter(HOP), LinkReader(HOP)
    for packet in (packet for packets in messages for packet in packets):
        mine = packet._replace(source=0)
        assert reader.up(writer.up(mine)) == mine


@given(st.binary(max_size=60), st.booleans())
def test_only_protocol_errors_escape_and_what_was_refused_changes_nothing(noise: bytes, known: bool) -> None:
    for kind in (b"\5", b"\6", b"", b"\2", b"\3"):
        reader = LinkReader(HOP)
        if known:
            reader.up(encode_codes_up(codes(2, 1)))
            reader.down(LinkWriter(HOP).down([codes(2, 1, source=1)])[0])
        notes = dict(reader._notes)
        for read in (reader.up, reader.down):
            try:
                read(kind + noise)
            except ProtocolError:
                assert reader._notes == notes
            else:
                notes = dict(reader._notes)


def test_pcm_keeps_its_header_and_stands_apart() -> None:
    writer, reader = LinkWriter(HOP), LinkReader(HOP)
    block, packet = PcmBlock(3, 0, 0, bytes(640)), codes(2, 1, source=1)
    first, second = writer.down([packet, block])
    assert (reader.down(first), reader.down(second)) == ([packet], [block])
    assert writer.down([]) == []


def test_what_a_packet_costs() -> None:
    """A message of three frames at 6 kbps has 30 bytes of codes: 2 more up, 3 more down."""
    writer = LinkWriter(HOP)
    writer.up(codes(8, 3))
    assert len(writer.up(codes(8, 3, 3, 960))) == 32
    writer.down([codes(8, 3, 6, 1920, source=5)])
    assert [len(message) for message in writer.down([codes(8, 3, 9, 2880, source=5)])] == [33]


def test_a_truncated_message_is_refused() -> None:
    writer = LinkWriter(HOP)
    first, second = (writer.down([codes(2, 3, 3 * i, 960 * i, source=9, trace=Trace(1))])[0] for i in range(2))
    for size in range(len(second)):
        reader = LinkReader(HOP)
        reader.down(first)
        with contextlib.suppress(ProtocolError):
            reader.down(second[:size])
            raise AssertionError(size)
