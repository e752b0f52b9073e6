"""Media messages: golden bytes written by hand from docs/protocol.md, and bytes that nobody should
send."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.codec.bitstream import pack, unpack
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.packet import (
    MAX_MESSAGE_BYTES,
    MAX_PCM_SAMPLES,
    MAX_WINDOW_FRAMES,
    CodedPacket,
    Packet,
    PcmBlock,
    PcmFormat,
    PcmUp,
    Trace,
    decode_down,
    decode_up,
    encode_codes_down,
    encode_codes_up,
    encode_pcm_down,
    encode_pcm_up,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden.json").read_text("utf-8"))
MEDIA = GOLDEN["media"]


def from_fields(fields: dict[str, Any]) -> Packet | CodedPacket | PcmUp | PcmBlock:
    """A golden entry's fields as what the parsers give."""
    trace = Trace(**fields["trace"]) if fields["trace"] else None
    place = {"sequence": fields["sequence"], "timestamp": fields["timestamp"], "trace": trace}
    if "coded" in fields:
        coded = fields["coded"] | {"payload": bytes.fromhex(fields["coded"]["payload"])}
        return CodedPacket(**coded, source=fields.get("source", 0), **place)
    if "codes" in fields:
        codes = np.array(fields["codes"])
        more = {"source": fields.get("source", 0), "scale": fields.get("scale")}
        return Packet(*codes.shape, payload=pack(codes), **more, **place)
    if "source" in fields:
        return PcmBlock(fields["source"], data=np.array(fields["samples"], "<i2").tobytes(), **place)
    form = PcmFormat[fields["format"].upper()]
    samples = np.array(fields["samples"], "<i2" if form is PcmFormat.S16 else "<f4")
    return PcmUp(form, data=samples.tobytes(), **place)


def encode(message: Packet | PcmUp | list[Any], kind: str) -> bytes:
    encoders: dict[str, Callable[[Any], bytes]] = {
        "pcm_up": encode_pcm_up,
        "codes_up": encode_codes_up,
        "codes_down": encode_codes_down,
        "pcm_down": encode_pcm_down,
    }
    return encoders[kind](message)


def parser(entry: dict[str, Any]) -> Callable[[bytes], Any]:
    return decode_up if entry["direction"] == "up" else decode_down


@pytest.mark.parametrize("entry", MEDIA, ids=lambda entry: entry["name"])
def test_golden_bytes(entry: dict[str, Any]) -> None:
    data = bytes.fromhex(entry["hex"])
    expected: Any = (
        [from_fields(one) for one in entry["entries"]] if entry["direction"] == "down" else from_fields(entry["fields"])
    )
    assert parser(entry)(data) == expected
    assert encode(expected, entry["type"]) == data


@pytest.mark.parametrize("entry", MEDIA, ids=lambda entry: entry["name"])
def test_golden_bytes_truncated_and_prolonged(entry: dict[str, Any]) -> None:
    data, parse = bytes.fromhex(entry["hex"]), parser(entry)
    head = 22 if entry["type"] == "pcm_up" and entry["fields"]["trace"] else 10
    if "coded" in entry.get("fields", {}):
        assert parse(data + b"\0").payload == parse(data).payload + b"\0"  # what is left is its payload, too
        head, data = 22 if entry["fields"]["trace"] else 10, data[: 22 if entry["fields"]["trace"] else 10]
        for size in range(head):
            with pytest.raises(ProtocolError):
                parse(data[:size])
        return
    width = 4 if entry.get("fields", {}).get("format") == "f32" else 2
    for size in range(len(data)):
        if entry["type"] == "pcm_up" and size >= head and (size - head) % width == 0:
            assert len(parse(data[:size]).data) == size - head  # PCM up has no length of its own: fewer samples
            continue
        with pytest.raises(ProtocolError) as caught:
            parse(data[:size])
        assert caught.value.code == CloseCode.MALFORMED
    with pytest.raises(ProtocolError):
        parse(data + b"\0")


@pytest.mark.parametrize("entry", GOLDEN["malformed"], ids=lambda entry: entry["name"])
def test_golden_malformed(entry: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        parser(entry)(bytes.fromhex(entry["hex"]))
    assert caught.value.code == CloseCode.MALFORMED


@given(st.sampled_from(MEDIA), st.data())
def test_only_protocol_errors_escape_from_mutations(entry: dict[str, Any], data: st.DataObject) -> None:
    """And what is accepted has one spelling only."""
    raw = bytearray(bytes.fromhex(entry["hex"]))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for parse in (decode_up, decode_down):
        try:
            parsed: Any = parse(bytes(raw))
        except ProtocolError:
            continue
        kind = ["pcm_up", "codes_up", "codes_down", "pcm_down"][raw[0] - 1]
        assert encode(parsed, kind) == bytes(raw)


@given(st.binary(max_size=200))
def test_only_protocol_errors_escape_from_noise(raw: bytes) -> None:
    for parse in (decode_up, decode_down):
        for kind in (b"", b"\1", b"\2", b"\3", b"\4"):
            with contextlib.suppress(ProtocolError):
                parse(kind + raw)


def test_the_largest_messages_fit() -> None:
    loud = PcmUp(PcmFormat.F32, 0, 0, bytes(4 * MAX_PCM_SAMPLES), Trace(1))
    assert decode_up(encode_pcm_up(loud)) == loud
    assert len(encode_pcm_up(loud)) < MAX_MESSAGE_BYTES
    with pytest.raises(ProtocolError, match="at most 24000 samples"):
        decode_up(encode_pcm_up(loud._replace(data=bytes(4 * MAX_PCM_SAMPLES + 4))))
    block = PcmBlock(1, 0, 0, bytes(2 * MAX_PCM_SAMPLES))
    assert decode_down(encode_pcm_down([block])) == [block]
    with pytest.raises(ProtocolError, match="at most 24000 are allowed"):
        decode_down(encode_pcm_down([block._replace(data=bytes(2 * MAX_PCM_SAMPLES + 2))]))
    crowd = [Packet(8, 1, i, 320 * i, pack(np.full((8, 1), i % 1024)), Trace(i), i) for i in range(1, 256)]
    assert decode_down(encode_codes_down(crowd)) == crowd


def test_cutting_a_packet() -> None:
    codes = np.random.default_rng(1).integers(0, 1024, (16, 3))
    whole = Packet(16, 3, 5, 960, pack(codes), Trace(7, 1, 2, 3, 4), 9)
    low = whole.cut(3)
    np.testing.assert_array_equal(unpack(low.payload, 3, 3), codes[:3])
    assert low._replace(n_q=16, payload=whole.payload) == whole
    assert whole.cut(16) is whole.cut(99) is whole
    assert whole._replace(scale=0.25).cut(3) == low._replace(scale=0.25)


def test_the_largest_window_fits() -> None:
    codes = np.random.default_rng(2).integers(0, 1024, (32, MAX_WINDOW_FRAMES))
    window = Packet(*codes.shape, 0, 0, pack(codes), Trace(1), scale=0.5)
    assert decode_up(encode_codes_up(window)) == window
    down = [window._replace(source=source) for source in (1, 2)]
    assert decode_down(encode_codes_down(down)) == down


def test_trace_ticks() -> None:
    trace = Trace((1 << 32) - 1000)
    assert trace.ticks_at((1 << 32) - 1000) == 0
    assert trace.ticks_at((1 << 32) - 901) == 0
    assert trace.ticks_at((1 << 32) + 500) == 15  # the clock has wrapped
    assert trace.ticks_at((1 << 32) - 2000) == 0  # a clock that seems to go back
    assert trace.ticks_at((1 << 32) + 60_000_000) == 0xFFFF
    assert len(trace.to_bytes()) == 12
