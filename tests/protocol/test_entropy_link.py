"""Links: what goes in at one end comes out at the other, whatever was dropped, joined or cut
before."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.codec.bitstream import pack
from earshot.codec.lm.entropy import CodesLm
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.entropy_link import IDLE_PACKETS, MAX_STREAMS, LinkDecoder, LinkEncoder
from earshot.protocol.packet import MAX_CODED_FRAMES, CodedPacket, Packet, Trace
from tests.integer_lm import live_lm

pytest.importorskip("earshot.codec.engine.native.lm")
CODES = np.random.default_rng(5).integers(0, 1024, (16, 200), np.int16)


@pytest.fixture(scope="module")
def lm() -> CodesLm:
    return live_lm().lm


def packet(first: int, frames: int = 1, n_q: int = 4, source: int = 3) -> Packet:
    payload = pack(CODES[:n_q, first : first + frames])
    return Packet(n_q, frames, first, 320 * first, payload, Trace(first), source)


def coded(encoder: LinkEncoder, plain: Packet) -> CodedPacket:
    made = encoder.encode(plain)
    assert isinstance(made, CodedPacket)
    return made


def test_golden_bytes(lm: CodesLm) -> None:
    """Of the weights in tests/integer_lm.py: other bytes would be another format."""
    encoder = LinkEncoder(lm)
    made = [coded(encoder, packet(first, 2, n_q)) for first, n_q in ((0, 2), (2, 8), (4, 9))]
    assert [one.payload.hex() for one in made] == GOLDEN
    assert [one.anew for one in made] == [True, False, False]


GOLDEN = [
    "ffff340080e5ffafeeffef03",
    "ffbffaff5f3b0070f0ff27ffff0df8ffb3040058fe7fef00600e0080faffdfeeff070a00d0fffff5f8ff0afe7fea",
    "ff3f7300e01c0010070090feff9705004a0200c9feff0b0000f4ffbffeff5fe5ffeb0e00a2ffffe8f9ff8900809395170b",
]


def test_drops_joins_cuts_and_rates_before_it_need_no_agreement(lm: CodesLm) -> None:
    encoder, decoder = LinkEncoder(lm), LinkDecoder(lm)
    sent = [packet(0), packet(1, n_q=16), packet(9, 8, 2), packet(17, n_q=1), packet(30, 3, 8), packet(33, n_q=4)]
    for number, plain in enumerate(sent):
        made = coded(encoder, plain)
        assert made.anew == (number == 0)
        assert decoder.decode(made) == plain


def test_what_is_not_coded_goes_as_it_is_and_leaves_the_stream_alone(lm: CodesLm) -> None:
    encoder, decoder = LinkEncoder(lm), LinkDecoder(lm)
    decoder.decode(coded(encoder, packet(0)))
    for plain in (packet(1)._replace(scale=0.5), packet(1, MAX_CODED_FRAMES + 1)):
        assert encoder.encode(plain) is plain
    wide = Packet(32, 8, 0, 0, pack(np.zeros((32, 8), int)), source=3)
    assert encoder.encode(wide) is wide  # more than a length byte could say
    made = coded(encoder, packet(40))
    assert not made.anew
    assert decoder.decode(made) == packet(40)


def test_a_bounded_number_of_speakers_is_coded_and_a_silent_one_makes_place(lm: CodesLm) -> None:
    encoder, decoder = LinkEncoder(lm), LinkDecoder(lm)
    for source in range(1, MAX_STREAMS + 1):
        assert decoder.decode(coded(encoder, packet(0, source=source))) == packet(0, source=source)
    late = packet(0, source=99)
    assert encoder.encode(late) is late
    talkers = range(2, MAX_STREAMS + 1)
    for number in range(IDLE_PACKETS):
        plain = packet(number % 200, n_q=1, source=talkers[number % len(talkers)])
        assert decoder.decode(coded(encoder, plain)) == plain
    assert coded(encoder, late).anew
    encoder_of_late = packet(1, source=99)
    assert not coded(encoder, encoder_of_late).anew
    first = packet(7, source=1)  # who was silent has no place now
    assert encoder.encode(first) is first


def test_both_ends_give_up_the_same_speaker(lm: CodesLm) -> None:
    encoder, decoder = LinkEncoder(lm), LinkDecoder(lm)
    random = np.random.default_rng(1)
    count = 0
    for number in range(12 * IDLE_PACKETS):  # who talks wanders on, so that places change hands all the time
        source = 1 + (number // (4 * IDLE_PACKETS)) * 5 + int(random.integers(7))
        plain = packet(number % 200, n_q=1, source=source)
        made = encoder.encode(plain)
        if isinstance(made, CodedPacket):
            count += made.anew
            assert decoder.decode(made) == plain
    assert count > MAX_STREAMS


def test_what_no_encoder_makes_is_refused(lm: CodesLm) -> None:
    made = coded(LinkEncoder(lm), packet(0))
    with pytest.raises(ProtocolError, match="has not begun"):
        LinkDecoder(lm).decode(made._replace(anew=False))
    with pytest.raises(ProtocolError, match="has not begun"):
        LinkDecoder(lm).decode(made._replace(anew=False, source=4))
    with pytest.raises(ProtocolError, match="of 2 bytes is truncated"):
        LinkDecoder(lm).decode(made._replace(n_q=16, payload=b"12"))
    decoder = LinkDecoder(lm)
    with pytest.raises(ProtocolError, match="bytes after its last code"):
        decoder.decode(made._replace(payload=made.payload + b"\x17\x17\x17"))
    with pytest.raises(ProtocolError, match="has not begun"):
        decoder.decode(made._replace(anew=False))


def test_any_bytes_give_codes_or_one_error(lm: CodesLm) -> None:
    random, decoder = np.random.default_rng(9), LinkDecoder(lm)
    refused = 0
    for _ in range(400):
        n_q, frames = int(random.integers(1, 17)), int(random.integers(1, 4))
        payload = random.bytes(int(random.integers(0, 40)))
        try:
            plain = decoder.decode(CodedPacket(n_q, frames, 0, 0, payload, bool(random.integers(2)), source=1))
            assert (plain.n_q, plain.frames) == (n_q, frames)
        except ProtocolError:
            refused += 1
    assert 0 < refused < 400
