"""The integer language model: two implementations, one result, whatever the processor, the threads
or the batch."""

from __future__ import annotations

import math
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from earshot import codec
from earshot.codec.errors import ModelError, UsageError, WeightsError
from earshot.codec.lm.entropy import CodesLm
from earshot.codec.lm.integer_lm import FRACTION, IntegerLm, LmShape, LmWeights, cdf_of, powers
from earshot.codec.weights.lm import BUNDLED, digest, load_integer_lm, save_integer_lm
from tests.integer_lm import SHAPE, random_weights

native_lm = pytest.importorskip("earshot.codec.engine.native.lm")
native = pytest.importorskip("earshot.codec.engine.native._integer_lm")

Codes = NDArray[np.int64]


def cdfs(lm: CodesLm, codes: Codes, n_q: int = 8) -> Codes:
    """Returns the CDFs [T, n_q, B, card] before each code of [B, n_q, T]."""
    streams, found = lm.streams(codes.shape[0]), []
    for frame in range(codes.shape[2]):
        for q in range(n_q):
            found.append(streams.cdf())
            streams.push(codes[:, q, frame])
        streams.end_frame()
    return np.stack(found).reshape(codes.shape[2], n_q, codes.shape[0], -1)


@pytest.fixture(scope="module")
def codes() -> Codes:
    return np.random.default_rng(5).integers(0, 1024, (8, 8, 25))


@pytest.fixture(scope="module")
def expected(codes: Codes) -> Codes:
    """Returns the CDFs of the reference, for a batch of 8."""
    return cdfs(IntegerLm(random_weights()), codes)


@pytest.mark.parametrize("kernels", native.kernel_names())
def test_every_kernel_gives_the_same_numbers(codes: Codes, expected: Codes, kernels: str) -> None:
    lm = native_lm.NativeLm(random_weights(), kernels)
    assert lm.kernels == kernels
    np.testing.assert_array_equal(cdfs(lm, codes), expected)
    np.testing.assert_array_equal(cdfs(lm, codes[3:4])[:, :, 0], expected[:, :, 3])


def test_a_batch_of_one_is_the_same(codes: Codes, expected: Codes) -> None:
    np.testing.assert_array_equal(cdfs(IntegerLm(random_weights()), codes[2:3])[:, :, 0], expected[:, :, 2])


def test_two_threads_give_the_same_numbers(codes: Codes, expected: Codes) -> None:
    lm = native_lm.NativeLm(random_weights())
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda b: cdfs(lm, codes[b : b + 1])[:, :, 0], range(8)))
    np.testing.assert_array_equal(np.stack(found, axis=2), expected)


@pytest.mark.parametrize("make", [IntegerLm, native_lm.NativeLm])
def test_a_coarser_rate_needs_nothing_of_a_finer_one(make: Any, codes: Codes, expected: Codes) -> None:
    other = codes.copy()
    other[:, 2:] = 1023 - other[:, 2:]
    lm = make(random_weights())
    np.testing.assert_array_equal(cdfs(lm, other)[:, :2], expected[:, :2])
    for n_q in (2, 4):
        np.testing.assert_array_equal(cdfs(lm, codes, n_q), expected[:, :n_q])
    assert (cdfs(lm, other)[:, 2:] != expected[:, 2:]).any()


@pytest.mark.parametrize("make", [IntegerLm, native_lm.NativeLm])
def test_what_comes_before_matters_and_is_forgotten_at_a_reset(make: Any, codes: Codes) -> None:
    streams = make(random_weights()).streams(8)
    start = streams.cdf()
    for frame in (0, 1):
        for q in range(8):
            streams.push(codes[:, q, frame])
        streams.end_frame()
    later = streams.cdf()
    assert (later != start).any()
    twin = streams.copy()
    streams.push(codes[:, 0, 2])
    assert (streams.cdf() != twin.cdf()).any()
    np.testing.assert_array_equal(twin.cdf(), later)
    streams.reset()
    np.testing.assert_array_equal(streams.cdf(), start)
    for _ in range(8):
        streams.push(np.zeros(8, np.int64))
    with pytest.raises((UsageError, ValueError), match="knows no further codebook"):
        streams.cdf()


def test_powers_are_powers() -> None:
    exact = [math.floor(2 ** (24 - f / 1024)) for f in range(1, 1024)]
    assert powers()[0] == 1 << 24
    assert np.abs(powers()[1:] - exact).max() <= 1
    assert zlib.crc32(powers().astype("<i8").tobytes()) == 0x708B2381


def test_cdfs_are_probabilities() -> None:
    logits = np.random.default_rng(0).normal(0, 6, (20, 1024))
    got = np.diff(cdf_of(np.rint(logits * (1 << FRACTION)).astype(np.int64)), prepend=0) / (1 << 24)
    wanted = 2**logits / (2**logits).sum(axis=1, keepdims=True)
    assert got.min() >= 2 / (1 << 24)
    assert got.sum(axis=1).max() <= 1
    np.testing.assert_allclose(got, wanted, atol=2e-4)


def test_what_could_overflow_is_refused() -> None:
    weights = random_weights()
    name = "towers.0.blocks.0.look.weight"
    wide = replace(SHAPE, channels=600)
    with pytest.raises(ModelError, match=r"look\.weight of a language model could overflow"):
        random_weights(wide)
    changes: list[tuple[dict[str, Any], str]] = [
        ({name: weights.arrays[name].astype(np.int16)}, "is int16"),
        ({name: weights.arrays[name][:-1]}, r"is int8 \(32, 66\), not int8 \(33, 66\)"),
        ({"more": np.zeros(1)}, "more"),
        ({"heads.0.mix.scale": np.full(40, -1, np.int32)}, "negative"),
    ]
    for change, message in changes:
        with pytest.raises(ModelError, match=message):
            LmWeights(SHAPE, {**weights.arrays, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"groups": [4, 2, 8]},
        {"groups": [0, 2, 4]},
        {"groups": []},
        {"groups": 7},
        {"dilations": [[1]]},
        {"dilations": [[0], [1], [1]]},
        {"dilations": [[1] * 17, [1], [1]]},
        {"dilations": [[10**9], [1], [1]]},
        {"card": 1 << 40},
        {"channels": 1.5},
        {"more": 1},
    ],
)
def test_shapes_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="a language model's"):
        LmShape.from_dict({**asdict(SHAPE), **change})


def test_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "lm.safetensors"
    save_integer_lm(random_weights(), "codec's digest", path)
    loaded = load_integer_lm("codec's digest", path)
    assert (loaded.shape, digest(loaded)) == (SHAPE, digest(random_weights()))
    assert digest(random_weights(seed=1)) != digest(loaded)
    with pytest.raises(ModelError, match="trained for the codec codec's digest, not for this one"):
        load_integer_lm("another", path)
    data = path.read_bytes()
    for damaged in (b"", data[:100], data[:-1], data.replace(b"channels", b"channelz")):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match="no language model written by"):
            load_integer_lm("codec's digest", path)


def test_the_bundled_one_is_the_same_in_both(codes: Codes) -> None:
    weights = load_integer_lm(codec.load("default", engine="torch").digest)
    assert BUNDLED.stat().st_size < 6_000_000
    some = codes[:1, :, :12]
    np.testing.assert_array_equal(cdfs(IntegerLm(weights), some), cdfs(native_lm.NativeLm(weights), some))


def test_the_bundled_one_is_refused_for_other_codecs() -> None:
    with pytest.raises(ModelError, match="comes with Earshot for the default model"):
        load_integer_lm("another")
