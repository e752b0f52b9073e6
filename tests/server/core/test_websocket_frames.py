"""The ends of WebSocket frames, beside the frames that websockets makes and reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode, apply_mask
from websockets.streams import StreamReader

from earshot.server.core.websocket_frames import MASK_BYTES, FrameEnds, binary_head, whole_binary

MOST = 1 << 17
SIZES = [0, 1, 125, 126, 127, 128, 65_535, 65_536]


def payload(data: bytes, at: int, most: int = MOST) -> bytes | None:
    found = whole_binary(data, at, most)
    if found is None:
        return None
    body, end = found
    return bytes(apply_mask(data[body:end], data[body - MASK_BYTES : body]))


@pytest.mark.parametrize("size", SIZES)
def test_a_whole_binary_message_is_found(size: int) -> None:
    message = bytes(number % 251 for number in range(size))
    data = b"before" + Frame(Opcode.BINARY, message).serialize(mask=True)
    assert payload(data + b"behind", 6) == (message if size < 1 << 16 else None)
    assert payload(data[:-1], 6) is None
    assert whole_binary(data, 6, len(data) - 7) is None  # longer than asked for


@pytest.mark.parametrize(
    "other",
    [
        Frame(Opcode.TEXT, b"text").serialize(mask=True),
        Frame(Opcode.PING, b"").serialize(mask=True),
        Frame(Opcode.CLOSE, b"").serialize(mask=True),
        Frame(Opcode.BINARY, b"first part", fin=False).serialize(mask=True),
        Frame(Opcode.CONT, b"last part").serialize(mask=True),
        b"\xc2" + Frame(Opcode.BINARY, b"compressed").serialize(mask=True)[1:],
        Frame(Opcode.BINARY, b"not masked").serialize(mask=False),
        b"\x82\xfe\x00\x05" + bytes(9),  # a short message in the longer form
        b"\x82\xff" + bytes(8 + 4),
        b"\x82",
        b"\x82\xfe\x00",
        b"",
    ],
    ids=[
        "text",
        "ping",
        "close",
        "first part",
        "last part",
        "compressed",
        "not masked",
        "longer form",
        "head of a long one",
        "half a head",
        "half a length",
        "nothing",
    ],
)
def test_any_other_frame_is_left_to_the_parser(other: bytes) -> None:
    assert payload(other, 0) is None


@pytest.mark.parametrize("size", SIZES[:-1])
def test_the_head_of_a_message_is_what_websockets_would_send(size: int) -> None:
    assert binary_head(size) + bytes(size) == Frame(Opcode.BINARY, bytes(size)).serialize(mask=False)


frames = st.builds(
    lambda opcode, size, mask: Frame(opcode, bytes(size)).serialize(mask=mask),
    st.sampled_from([Opcode.BINARY, Opcode.TEXT, Opcode.CONT]),
    st.sampled_from([0, 1, 3, 125, 126, 200, 65_536]),
    st.booleans(),
)


@given(st.lists(frames, max_size=6), st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_a_stream_in_pieces_is_between_frames_where_the_parser_is(stream: list[bytes], sizes: list[int]) -> None:
    sizes = [size * size for size in sizes]
    ends = {sum(map(len, stream[:count])) for count in range(len(stream) + 1)}
    data, walker, at = b"".join(stream), FrameEnds(), 0
    while at < len(data):
        piece = data[at : at + sizes[at % len(sizes)]]
        walker.follow(piece)
        at += len(piece)
        assert walker.between == (at in ends)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_only_where_websockets_reads_the_same(data: bytes) -> None:
    found = payload(data, 0)
    if found is None:
        return
    reader = StreamReader()
    reader.feed_data(data)
    parser = Frame.parse(reader.read_exact, mask=True, max_size=MOST)
    with pytest.raises(StopIteration) as parsed:
        next(parser)
    frame: Frame = parsed.value.value
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.BINARY, True, found)
