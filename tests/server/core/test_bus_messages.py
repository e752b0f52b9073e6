"""What nodes tell each other, from bytes and back, and what is refused."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from earshot.codec.bitstream import pack
from earshot.protocol.packet import CodedPacket, Packet, Trace
from earshot.protocol.silence import Silence
from earshot.server.core.bus_messages import (
    MAX_CONTROL_BYTES,
    MAX_MEDIA_BYTES,
    AskState,
    BusError,
    Control,
    Heard,
    Media,
    entry,
    is_media,
    media_message,
    read_control,
    read_media,
)

CODES = np.random.default_rng(0).integers(0, 1024, (8, 3))


def test_media_of_several_rooms_go_in_one_message() -> None:
    packets = [
        Heard(7, Packet(8, 3, 65535, 4_000_000_000, pack(CODES), Trace(5, 1, 2, 3, 4), source=60_000)),
        Heard(7, Silence(3, 960, bytes(range(6)), source=2)),
        Heard(4_000_000_000, Packet(8, 3, 1, 2, pack(CODES), scale=0.5, source=1)),
    ]
    data = media_message("node-1", 99, [entry(*each) for each in packets])
    assert is_media(data)
    assert read_media(data) == Media("node-1", 99, packets)


def test_control_messages_come_back_as_they_were() -> None:
    message = Control(node="b", boot=3, body=AskState(room="den"))
    data = message.model_dump_json().encode()
    assert not is_media(data)
    assert read_control(data) == message


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(media_message("b", 1, [b"\x00\x00"]), id="truncated"),
        pytest.param(media_message("b", 1, [b"\x05" + bytes(4)]), id="unknown kind"),
        pytest.param(media_message("b", 1, [entry(1, CodedPacket(8, 1, 0, 0, b"abc"))]), id="entropy-coded"),  # type: ignore[arg-type]
        pytest.param(media_message("b", 1, [bytes(MAX_MEDIA_BYTES)]), id="too long"),
        pytest.param(b"\x01\x02" + bytes(4) + b"\xff\xff", id="a name that is no text"),
    ],
)
def test_bad_media_are_refused(data: bytes) -> None:
    with pytest.raises(BusError):
        read_media(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b" " * (MAX_CONTROL_BYTES + 1), id="too long"),
        pytest.param(b'{"node":"a b","boot":1,"body":{"type":"bye"}}', id="a bad name"),
        pytest.param(b'{"node":"a","boot":1,"body":{"type":"hi"}}', id="an unknown type"),
        pytest.param(b'{"node":"a","boot":1,"body":{"type":"ask","room":"../x"}}', id="a bad room"),
        pytest.param(b'{"node":"a","boot":-1,"body":{"type":"bye"}}', id="a bad number"),
    ],
)
def test_bad_control_messages_are_refused(data: bytes) -> None:
    with pytest.raises(BusError):
        read_control(data)


@given(some.binary(max_size=300))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    for read in (read_control, read_media):
        with contextlib.suppress(BusError):
            read(data)
