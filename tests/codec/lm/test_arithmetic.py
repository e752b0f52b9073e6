"""The arithmetic coder makes the same bytes as the official package's, and reads any bytes."""

from __future__ import annotations

import io
from types import ModuleType

import numpy as np
import pytest
import torch

from earshot.codec.lm.arithmetic import TOTAL, ArithmeticDecoder, ArithmeticEncoder, Cdf, Damaged, quantized_cdf

DISTRIBUTIONS, SYMBOLS = 500, 100_000


@pytest.fixture(scope="module")
def probabilities() -> torch.Tensor:
    """Returns probabilities [DISTRIBUTIONS, 1024], from even to nearly certain."""
    torch.manual_seed(0)
    return torch.softmax(torch.randn(DISTRIBUTIONS, 1024) * torch.linspace(0, 12, DISTRIBUTIONS)[:, None], dim=1)


@pytest.fixture(scope="module")
def cdfs(probabilities: torch.Tensor) -> list[Cdf]:
    return [quantized_cdf(row) for row in probabilities.numpy()]


def drawn(cdfs: list[Cdf], count: int) -> list[tuple[int, int]]:
    """Returns pairs (distribution, symbol), most of them as likely as the distribution says, some
    at random."""
    rng = np.random.default_rng(1)
    rows = rng.integers(0, len(cdfs), count)
    likely = [int(np.searchsorted(cdfs[row], rng.integers(0, cdfs[row][-1]), side="right")) for row in rows]
    odd = rng.random(count) < 0.02
    return list(zip(rows.tolist(), np.where(odd, rng.integers(0, 1024, count), likely).tolist(), strict=True))


def test_cdfs_are_those_of_the_package(encodec: ModuleType, probabilities: torch.Tensor, cdfs: list[Cdf]) -> None:
    build = encodec.quantization.ac.build_stable_quantized_cdf
    for row, ours in zip(probabilities, cdfs, strict=True):
        np.testing.assert_array_equal(ours, build(row, 24, check=False))


def test_bytes_are_those_of_the_package(encodec: ModuleType, cdfs: list[Cdf]) -> None:
    tensors = [torch.from_numpy(cdf) for cdf in cdfs]
    file, ours = io.BytesIO(), ArithmeticEncoder()
    theirs = encodec.quantization.ac.ArithmeticCoder(file)
    symbols = drawn(cdfs, SYMBOLS)
    made = bytearray()
    for row, symbol in symbols:
        theirs.push(symbol, tensors[row])
        ours.push(symbol, cdfs[row])
        made += ours.take()
    theirs.flush()
    made += ours.finish()
    assert bytes(made) == file.getvalue()
    source = iter([*made, 77])
    decoder = ArithmeticDecoder(source)
    assert [decoder.pull(cdfs[row]) for row, _ in symbols] == [symbol for _, symbol in symbols]
    assert next(source) == 77  # nothing was read beyond the end


@pytest.mark.parametrize("length", [0, 1, 2, 7, 100])
def test_a_short_end_is_enough_and_short(cdfs: list[Cdf], length: int) -> None:
    encoder, spent, ideal = ArithmeticEncoder(), 0, 0.0
    for start in range(0, 2000, max(length, 1)):
        symbols = drawn(cdfs, start + length)[start:]
        for row, symbol in symbols:
            encoder.push(symbol, cdfs[row])
            ideal += 24 - np.log2(cdfs[row][symbol] - (cdfs[row][symbol - 1] if symbol else 0))
        data = encoder.finish_short()
        spent += 8 * len(data)
        decoder = ArithmeticDecoder(iter(data), endless=True)
        assert [decoder.pull(cdfs[row]) for row, _ in symbols] == [symbol for _, symbol in symbols]
        if start > 200:
            break
    ends = min(1 + 200 // max(length, 1) + 1, 202)
    assert spent <= ideal + 8 * ends if length else spent == 0


def test_the_end_is_said(cdfs: list[Cdf]) -> None:
    encoder = ArithmeticEncoder()
    for symbol in range(50):
        encoder.push(symbol, cdfs[0])
    data = encoder.finish()
    decoder = ArithmeticDecoder(iter(data[:-4]))
    with pytest.raises(EOFError):
        [decoder.pull(cdfs[0]) for _ in range(50)]


def test_any_bytes_give_symbols_or_one_error(cdfs: list[Cdf]) -> None:
    rng, damaged = np.random.default_rng(2), 0
    gap = np.array([2, TOTAL // 2], np.int64)  # the upper half belongs to no symbol
    for _ in range(300):
        decoder = ArithmeticDecoder(iter(rng.bytes(30)))
        try:
            while True:
                assert 0 <= decoder.pull(cdfs[int(rng.integers(DISTRIBUTIONS))]) < 1024
                assert 0 <= decoder.pull(gap) < 2
        except EOFError:
            continue
        except Damaged:
            damaged += 1
    assert damaged > 100
