"""Packets through the integer language model: decoding returns what was encoded, for every way of
cutting."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from earshot.codec.bitstream import Codes
from earshot.codec.errors import DataError, UsageError
from earshot.codec.lm.entropy import CodesLm, EntropyDecoder, EntropyEncoder, spans
from earshot.codec.lm.integer_lm import IntegerLm, LmShape
from tests.integer_lm import SHAPE, random_weights

native_lm = pytest.importorskip("earshot.codec.engine.native.lm")


@pytest.fixture(scope="module")
def lm() -> CodesLm:
    made: CodesLm = native_lm.NativeLm(random_weights())
    return made


@pytest.fixture(scope="module")
def codes() -> Codes:
    return np.random.default_rng(3).integers(0, 1024, (16, 40), np.int16)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("n_q", [1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("cuts", [[0, 40], [0, 1, 2, 3, 40], list(range(41)), [0, 0, 17, 17, 40]])
def test_packets_come_back(lm: CodesLm, codes: Codes, n_q: int, cuts: list[int], joint: bool) -> None:
    encoder, decoder = EntropyEncoder(lm, joint), EntropyDecoder(IntegerLm(random_weights()), joint)
    for first, end in pairwise(cuts):
        packet = codes[:n_q, first:end]
        sections = encoder.encode(packet)
        assert len(sections) == (1 + (n_q > 8) if joint else len(spans(lm.shape, n_q)))
        np.testing.assert_array_equal(decoder.decode(sections, n_q, end - first), packet)


def test_finer_groups_can_be_left_out(lm: CodesLm, codes: Codes) -> None:
    """A server without any model can leave finer groups out; the rest is what a speaker at that
    rate would have sent."""
    whole, coarse = EntropyEncoder(lm), EntropyEncoder(lm)
    decoders = {n_q: EntropyDecoder(lm) for n_q in (2, 4, 8)}
    for first in range(0, 40, 2):
        sections = whole.encode(codes[:, first : first + 2])
        assert sections[:2] == coarse.encode(codes[:4, first : first + 2])
        for n_q, decoder in decoders.items():
            heard = decoder.decode(sections[: len(spans(lm.shape, n_q))], n_q, 2)
            np.testing.assert_array_equal(heard, codes[:n_q, first : first + 2])


def test_both_ends_begin_anew_after_a_loss(lm: CodesLm, codes: Codes) -> None:
    encoder, decoder, late = EntropyEncoder(lm), EntropyDecoder(lm), EntropyDecoder(lm)
    for first in (0, 10):
        decoder.decode(encoder.encode(codes[:4, first : first + 10]), 4, 10)
    for end in (encoder, decoder):
        end.reset()
    sections = encoder.encode(codes[:4, 20:])
    for end in (decoder, late):
        np.testing.assert_array_equal(end.decode(sections, 4, 20), codes[:4, 20:])


def test_spans() -> None:
    assert [spans(SHAPE, n_q) for n_q in (1, 2, 3)] == [[(0, 1)], [(0, 2)], [(0, 2), (2, 3)]]
    assert spans(SHAPE, 8) == [(0, 2), (2, 4), (4, 8)]
    assert spans(SHAPE, 32) == [(0, 2), (2, 4), (4, 8), (8, 32)]


def test_what_no_encoder_makes_is_refused(lm: CodesLm, codes: Codes) -> None:
    decoder = EntropyDecoder(lm)
    with pytest.raises(DataError, match="4 codebooks are 2 sections, not 1"):
        decoder.decode([b""], 4, 1)
    with pytest.raises(DataError, match="0 codebooks"):
        decoder.decode([], 0, 1)
    with pytest.raises(DataError, match="8 x 1 codes take 10 bytes, not 9"):
        decoder.decode([b"", b"", b"", b"123456789"], 16, 1)
    with pytest.raises(DataError, match="a packet is damaged"):
        decoder.decode([b"\xff" * 60], 2, 20)  # beyond the last symbol
    with pytest.raises(UsageError, match=r"codes must be in 0\.\.1023"):
        EntropyEncoder(lm).encode(codes[:2] - 1023)
    with pytest.raises(UsageError, match="not of codebooks of 512"):
        EntropyEncoder(IntegerLm(random_weights(LmShape((1,), ((1,),), 512, 8, 8, 8))))


@pytest.mark.parametrize("surplus", [b"\0", b"\1", b"123"])
def test_bytes_after_the_last_code_are_refused(lm: CodesLm, codes: Codes, surplus: bytes) -> None:
    """A packet then has few spellings, and the only truncation that is not noticed is that of a
    whole section to nothing."""
    (section,) = EntropyEncoder(lm, joint=True).encode(codes[:4, :3])
    with pytest.raises(DataError, match="bytes after its last code"):
        EntropyDecoder(lm, joint=True).decode([section + surplus], 4, 3)


def test_any_bytes_give_codes_or_one_error(lm: CodesLm) -> None:
    rng, decoder = np.random.default_rng(9), EntropyDecoder(lm)
    for _ in range(200):
        try:
            found = decoder.decode([rng.bytes(int(rng.integers(6))) for _ in range(2)], 4, 3)
            assert 0 <= found.min() <= found.max() < 1024
        except DataError:
            decoder.reset()
