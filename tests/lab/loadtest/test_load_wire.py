"""The bytes of a load-test client, read by the parts that real peers use."""

from __future__ import annotations

import numpy as np
import pytest
from websockets.frames import Frame, Opcode

from earshot.codec.bitstream import pack
from earshot.codec.pcm import to_s16
from earshot.lab.loadtest.wire import BINARY, CLOSE, TEXT, Arrival, Inbox, Utterance, arrivals, client_frame
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.packet import Packet, PcmFormat, PcmUp, Trace, decode_up, encode_codes_down

HOP = 320


def payload(frame: bytes) -> bytes:
    """Of a frame with a 16-bit length and a mask of zeros."""
    assert frame[0] == BINARY
    assert frame[1] == 0x80 | 126
    assert frame[4:8] == bytes(4)
    assert int.from_bytes(frame[2:4], "big") == len(frame) - 8
    return frame[8:]


def test_messages_are_the_voice_frame_by_frame_again_and_again() -> None:
    voice = to_s16(np.random.default_rng(0).standard_normal(3 * HOP + 7).astype(np.float32) * 0.1)
    utterance = Utterance(voice, HOP, start=2)
    for index in range(7):
        at = (index + 2) % 3 * 2 * HOP
        message = decode_up(payload(bytes(utterance.next(50_000 + index, 13_333))))
        trace = Trace(36_667 + index, framed=133)
        assert message == PcmUp(PcmFormat.S16, index, index * HOP, voice[at : at + 2 * HOP], trace)
    assert utterance.sent == 7


def packet(sequence: int, frames: int = 1, trace: Trace | None = None, n_q: int = 8) -> Packet:
    codes = np.random.default_rng(sequence).integers(0, 1024, (n_q, frames))
    return Packet(n_q, frames, sequence, sequence * HOP, pack(codes), trace, source=3)


def test_sequence_and_trace_of_packets_are_read() -> None:
    message = encode_codes_down([packet(9, 2, n_q=3), packet(65_535, trace=Trace(5, 133, 170, 140, 180))])
    assert arrivals(message) == [Arrival(3, 9, 2, None), Arrival(3, 65_535, 1, (133, 170, 140, 180))]


@pytest.mark.parametrize("message", [b"", b"\x03", b"\x04\x00", encode_codes_down([packet(1)])[:-1]])
def test_other_messages_are_refused(message: bytes) -> None:
    with pytest.raises(ProtocolError):
        arrivals(message)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1 << 20])
def test_frames_come_out_whole_however_they_arrive(size: int) -> None:
    sent = [
        (TEXT, b'{"type":"stats"}'),
        (BINARY, encode_codes_down([packet(1)])),
        (BINARY, bytes(200)),
        (TEXT, bytes(70_000)),
        (CLOSE, b"\x0f\xad"),
    ]
    opcodes = {TEXT: Opcode.TEXT, BINARY: Opcode.BINARY, CLOSE: Opcode.CLOSE}
    stream = b"".join(Frame(opcodes[first], data).serialize(mask=False) for first, data in sent)
    inbox, got = Inbox(), []
    for at in range(0, len(stream), size):
        got += inbox.feed(stream[at : at + size])
    assert got == sent


@pytest.mark.parametrize("size", [0, 4, 125, 126, 2000])
def test_client_frames_are_masked_frames(size: int) -> None:
    ours, theirs = client_frame(TEXT, bytes(size)), Frame(Opcode.TEXT, bytes(size)).serialize(mask=True)
    assert len(ours) == len(theirs)
    assert ours[: len(ours) - size - 4] == theirs[: len(theirs) - size - 4]
