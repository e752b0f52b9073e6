"""Control messages: golden JSON, and text that nobody should send."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.codec.config import ENCODEC_24KHZ, ENCODEC_48KHZ
from earshot.codec.errors import UsageError
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import (
    MAX_CONTROL_BYTES,
    Hello,
    ModelInfo,
    PeerLeft,
    SetRate,
    WindowModel,
    parse_client,
    parse_server,
)

CONTROL = json.loads((Path(__file__).parents[1] / "data" / "golden.json").read_text("utf-8"))["control"]


@pytest.mark.parametrize("entry", CONTROL, ids=lambda entry: entry["message"]["type"])
def test_golden_messages(entry: dict[str, Any]) -> None:
    """Each parses on its own side only, keeps every field, and does not mind one more."""
    right, wrong = (parse_client, parse_server) if entry["direction"] == "up" else (parse_server, parse_client)
    text = json.dumps(entry["message"])
    parsed: Any = right(text)
    assert json.loads(parsed.model_dump_json()) == entry["message"]
    assert right(json.dumps(entry["message"] | {"later": {"version": 2}})) == parsed
    with pytest.raises(ProtocolError):
        wrong(text)
    for end in range(len(text)):
        with pytest.raises(ProtocolError):
            right(text[:end])


def test_defaults() -> None:
    hello = parse_client('{"type": "hello", "protocol": 1}')
    assert hello == Hello(protocol=1, name="", model=None, send="pcm", want="codes", send_kbps=6.0, max_kbps=12.0)
    assert Hello(protocol=1, name="Zoë 李 🎧").name == "Zoë 李 🎧"
    assert parse_client('{"type": "set_rate", "max_kbps": 3}') == SetRate(max_kbps=3.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '"hello"',
        '{"type": "shout"}',
        '{"type": "hello"}',
        '{"type": "hello", "protocol": "1"}',
        '{"type": "hello", "protocol": true}',
        '{"type": "hello", "protocol": 1.5}',
        '{"type": "hello", "protocol": 1, "name": "' + 65 * "x" + '"}',
        '{"type": "hello", "protocol": 1, "name": "\\u001b[2J"}',
        '{"type": "hello", "protocol": 1, "name": "two\\nlines"}',
        '{"type": "hello", "protocol": 1, "name": "\\u202esdrawkcab"}',
        '{"type": "hello", "protocol": 1, "send": "video"}',
        '{"type": "hello", "protocol": 1, "send_kbps": NaN}',
        '{"type": "hello", "protocol": 1, "send_kbps": Infinity}',
        '{"type": "hello", "protocol": 1, "send_kbps": 0}',
        '{"type": "hello", "protocol": 1, "send_kbps": 1e9}',
        '{"type": "mute", "muted": 1}',
        '{"type": "ping", "sent_us": -1}',
        '{"type": "ping", "sent_us": 9223372036854775808}',
        '{"type": "report", "playout_delay_ms": -1, "underruns": 0, "frames_played": 0, "frames_missing": 0}',
        '{"type": "report", "playout_delay_ms": 1, "underruns": null, "frames_played": 0, "frames_missing": 0}',
        "[" * 4000,
    ],
)
def test_malformed_messages(text: str) -> None:
    with pytest.raises(ProtocolError, match="malformed control message") as caught:
        parse_client(text)
    assert caught.value.code == CloseCode.MALFORMED


def test_a_message_to_many_is_written_once() -> None:
    """A change of one peer goes to everyone in its room."""
    message = PeerLeft(id=7, reason="gone")
    assert message.text is message.text


def test_length_is_limited() -> None:
    text = '{"type": "mute", "muted": true}'
    assert parse_client(text.ljust(MAX_CONTROL_BYTES))
    with pytest.raises(ProtocolError) as caught:
        parse_client(text.ljust(MAX_CONTROL_BYTES + 1))
    assert caught.value.code == CloseCode.MESSAGE_TOO_BIG


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(CONTROL), st.data())
def test_only_protocol_errors_escape(entry: dict[str, Any], data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(sorted(entry["message"])))
    text = json.dumps(entry["message"] | {field: data.draw(json_values)})
    for parse in (parse_client, parse_server):
        with contextlib.suppress(ProtocolError):
            parse(text)


@given(st.text(max_size=100))
def test_only_protocol_errors_escape_from_noise(text: str) -> None:
    with pytest.raises(ProtocolError):
        parse_client(text)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "\u001b[2J"},
        {"digest": "f" * 65},
        {"sample_rate": 192_001},
        {"channels": 3},
        {"hop_length": 0},
        {"n_codebooks": 33},
        {"codebook_size": 512},
        {"bandwidths": []},
        {"bandwidths": [0.5]},
        {"hop_length": 32},  # 240 kbps
        {"window_frames": 256},
        {"window_stride": 23_999},
        {"window_stride": 48_001},
        {"window_stride": None},
    ],
)
def test_a_speakers_model_that_cannot_be(change: dict[str, Any]) -> None:
    good = WindowModel.of(ENCODEC_48KHZ, "f" * 16)
    assert parse_client(Hello(protocol=1, send_model=good).model_dump_json()) == Hello(protocol=1, send_model=good)
    hello = {"type": "hello", "protocol": 1, "send_model": good.model_dump() | change}
    with pytest.raises(ProtocolError, match="malformed control message"):
        parse_client(json.dumps(hello))


def test_a_speakers_model_is_what_a_config_says() -> None:
    model = WindowModel.of(ENCODEC_48KHZ, "f" * 16)
    assert (model.window_frames, model.window_stride, model.channels) == (150, 47_520, 2)
    assert [model.n_q_at_most(kbps) for kbps in (0.1, 1.5, 6.0, 1000.0)] == [1, 1, 4, 16]
    with pytest.raises(UsageError, match="does not code in windows"):
        WindowModel.of(ENCODEC_24KHZ, "")
    with pytest.raises(UsageError, match="cannot be sent: window_frames"):
        WindowModel.of(replace(ENCODEC_48KHZ, window_seconds=2.0), "f" * 16)


def test_model_info_is_what_a_config_says() -> None:
    info = ModelInfo.of(ENCODEC_24KHZ, "0123456789abcdef")
    assert (info.name, info.hop_length, info.n_codebooks, info.bandwidths[-1]) == ("encodec_24khz", 320, 32, 24.0)
