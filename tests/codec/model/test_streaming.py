"""Sessions refuse impossible samples and codes, and states of other sessions."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import safetensors.torch

from earshot.codec.config import Padding
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm


@pytest.mark.parametrize("start", ["zeros", "reflect"])
def test_impossible_samples_never_poison_a_stream(
    tiny_model: Model, speech: Pcm, start: str, caplog: pytest.LogCaptureFixture
) -> None:
    dirty, clean = speech[:24_000].copy(), speech[:24_000].copy()
    dirty[[0, 1, 5000, 5001, 23_999]], clean[[0, 1, 5000, 5001, 23_999]] = [np.nan, np.inf, -np.inf, np.nan, np.inf], 0
    dirty[9000:9100], clean[9000:9100] = 3e38, 16.0
    session, reference = tiny_model.encoder(6.0, start), tiny_model.encoder(6.0, start)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        codes = np.concatenate([session.push(part) for part in np.split(dirty, 10)], axis=1)
    np.testing.assert_array_equal(codes, reference.push(clean))
    assert (session.replaced_samples, reference.replaced_samples) == (105, 0)
    assert "replaced 2 samples" in caplog.text
    np.testing.assert_array_equal(tiny_model.encode(dirty), tiny_model.encode(clean))


def test_loud_and_silent_streams_stay_finite(tiny_model: Model) -> None:
    square = np.sign(np.sin(np.arange(24_000) / 5)).astype(np.float32)
    for pcm in (square, 16 * square, np.zeros(24_000, np.float32), np.full(24_000, 1e-38, np.float32)):
        heard = tiny_model.decoder().push(tiny_model.encoder(12.0).push(pcm))
        assert heard.shape == (24_000,)
        assert np.isfinite(heard).all()


def test_shapes_and_empty_pushes(tiny_model: Model) -> None:
    encoder, decoder = tiny_model.encoder(3.0), tiny_model.decoder()
    for _ in range(1000):
        assert encoder.push([]).shape == (4, 0)
    assert (encoder.push(np.zeros(319)).shape, encoder.push([0.0]).shape) == ((4, 0), (4, 1))
    assert encoder.flush().shape == (4, 0)
    assert decoder.push(np.zeros((4, 0), np.int16)).shape == (0,)
    assert decoder.push(np.zeros((1, 2), np.int16)).dtype == np.float32
    assert decoder.flush().shape == (0,)


def test_an_ended_stream_takes_no_more(tiny_model: Model) -> None:
    encoder = tiny_model.encoder()
    first = [encoder.push(np.full(500, 0.1)), encoder.flush()]
    assert [codes.shape for codes in first] == [(8, 1), (8, 1)]
    assert encoder.flush().shape == (8, 0)
    with pytest.raises(UsageError, match="flushed"):
        encoder.push([0.0])
    encoder.reset()
    np.testing.assert_array_equal([encoder.push(np.full(500, 0.1)), encoder.flush()], first)


def test_wrong_arguments(tiny_model: Model) -> None:
    with pytest.raises(UsageError, match="choose one of"):
        tiny_model.encoder(7.0)
    with pytest.raises(UsageError, match="'zeros' or 'reflect'"):
        tiny_model.decoder("ones")  # type: ignore[arg-type]
    encoder = tiny_model.encoder(6.0)
    with pytest.raises(UsageError, match="choose one of"):
        encoder.kbps = 24.0
    assert encoder.kbps == 6.0
    decoder = tiny_model.decoder()
    for codes in ([1, 2], [[1024]], [[-1]], [[0.5]], np.zeros((17, 1), int), np.zeros((0, 3), int)):
        with pytest.raises(UsageError, match="codes must be"):
            decoder.push(codes)


def test_states_that_do_not_fit_are_refused_and_change_nothing(tiny_model: Model, speech: Pcm) -> None:
    session = tiny_model.encoder(6.0)
    session.push(speech[:1000])
    good = session.save()
    tensors = safetensors.torch.load(good)
    misshapen = {key: value[..., :0].contiguous() if key == "cache.0" else value for key, value in tensors.items()}
    lacking = {key: value for key, value in tensors.items() if key != "cache.3"}
    for bad in (
        b"",
        good[:-1],
        good[:100],
        safetensors.torch.save(misshapen),
        safetensors.torch.save(lacking),
        tiny_model.encoder(6.0, "reflect").save(),
        tiny_model.decoder().save(),
    ):
        with pytest.raises(UsageError, match="state"):
            session.restore(bad)
    assert session.save() == good
    other = tiny_model.encoder(6.0)
    other.restore(good)
    np.testing.assert_array_equal(other.push(speech[1000:9000]), session.push(speech[1000:9000]))


@pytest.mark.parametrize("start", ["zeros", "reflect"])
def test_copied_saved_and_interleaved_decoders(tiny_model: Model, start: Padding) -> None:
    """Mirrors the test of encoders in test_parity.py."""
    codes = np.random.default_rng(6).integers(0, 1024, (8, 60))
    whole = tiny_model.decoder(start)
    expected = np.concatenate([whole.push(codes), whole.flush()])
    for held in (3, 20):  # before a reflecting stream has begun, and after
        one, other, restored = (tiny_model.decoder(start) for _ in range(3))
        begun = one.push(codes[:, :held])
        other.push(codes[:, 30:50])
        twin = one.copy()
        restored.restore(one.save())
        one.push(codes[:, 40:])
        other.reset()
        goes_on = [session.push(codes[:, held:]) for session in (twin, restored)]
        np.testing.assert_array_equal(*goes_on)
        np.testing.assert_allclose(np.concatenate([begun, goes_on[0], twin.flush()]), expected, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(np.concatenate([other.push(codes), other.flush()]), expected)
