"""Sessions that step in C++ or as matrix products, against the network's own layers: every way of
cutting, both starts, partial ends, copies and saved states."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from earshot import codec
from earshot.codec.config import Padding
from earshot.codec.engine.native.engine import pack
from earshot.codec.engine.native.sessions import NativeDecoderSession, NativeEncoderSession, NativeSessionFactory
from earshot.codec.engine.torch.sessions import (
    MOST_FRAMES,
    TorchDecoderSession,
    TorchEncoderSession,
    TorchSessionFactory,
)
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model, SessionFactory
from earshot.codec.pcm import Pcm

NAMES = ["default", "two of everything", "one stage"]


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest, odd_models: dict[str, Model]) -> Model:
    return codec.load("default") if request.param == "default" else odd_models[request.param]


Makers = tuple[SessionFactory, NativeSessionFactory | TorchSessionFactory]


@pytest.fixture(params=[NativeSessionFactory, TorchSessionFactory])
def makers(request: pytest.FixtureRequest, model: Model) -> Makers:
    """Returns the factory of sessions with the network's own layers, and the one under test."""
    return SessionFactory(model.network), request.param(model.network)


def cuts(samples: int, most: int) -> Iterator[slice]:
    random, begin = np.random.default_rng(7), 0
    while begin < samples:
        end = min(samples, begin + int(random.integers(0, most)))
        yield slice(begin, end)
        begin = end


def kbps_of(model: Model) -> float:
    return model.bandwidths[-1]


@pytest.mark.parametrize("start", ["zeros", "reflect"])
def test_every_cutting_and_the_partial_end(makers: Makers, model: Model, speech: Pcm, start: Padding) -> None:
    hop = model.hop_length
    pcm = speech[: 40 * hop + hop // 2]
    sessions = [maker.encoder(kbps_of(model), start) for maker in makers]
    codes = [
        np.concatenate([*(s.push(pcm[cut]) for cut in cuts(pcm.size, 3 * hop + 2)), s.flush()], axis=1)
        for s in sessions
    ]
    assert isinstance(sessions[1], NativeEncoderSession | TorchEncoderSession)
    np.testing.assert_array_equal(codes[1], codes[0])
    decoders = [maker.decoder(start) for maker in makers]
    assert isinstance(decoders[1], NativeDecoderSession | TorchDecoderSession)
    heard = [
        np.concatenate([*(d.push(codes[0][:, cut]) for cut in cuts(codes[0].shape[1], 4)), d.flush()]) for d in decoders
    ]
    np.testing.assert_allclose(heard[1], heard[0], atol=1e-5)


def test_rates_change_between_frames_and_streams_start_again(makers: Makers, model: Model, speech: Pcm) -> None:
    hop = model.hop_length
    sessions = [maker.encoder(kbps_of(model), "zeros") for maker in makers]
    for index in range(12):
        for session in sessions:
            if index == 6:
                session.reset()
            session.kbps = model.bandwidths[index % len(model.bandwidths)]
        frame = speech[index * hop : (index + 1) * hop]
        expected, own = (session.push(frame) for session in sessions)
        np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize("start", ["zeros", "reflect"])
def test_states_pass_between_engines(makers: Makers, model: Model, speech: Pcm, start: Padding) -> None:
    hop = model.hop_length
    pcm = speech[: 30 * hop]
    before, after = pcm[: 12 * hop + hop // 3], pcm[12 * hop + hop // 3 :]
    reference = makers[0].encoder(kbps_of(model), start)
    first, rest = reference.push(before), reference.push(after)
    for origin in makers:
        session = origin.encoder(kbps_of(model), start)
        np.testing.assert_array_equal(session.push(before), first)
        saved = session.save()
        for target in makers:
            other = target.encoder(kbps_of(model), start)
            other.push(speech[-5 * hop :])
            other.restore(saved)
            twin = other.copy()
            np.testing.assert_array_equal(other.push(after), rest)
            np.testing.assert_array_equal(twin.push(after), rest)
        np.testing.assert_array_equal(session.push(after), rest)

    codes = np.concatenate([first, rest], axis=1)
    decoder = makers[0].decoder(start)
    expected = np.concatenate([decoder.push(codes[:, :15]), decoder.push(codes[:, 15:])])
    for origin in makers:
        decoding = origin.decoder(start)
        begun = decoding.push(codes[:, :15])
        saved = decoding.save()
        for target in makers:
            going = target.decoder(start)
            going.push(codes[:, -3:])
            going.restore(saved)
            twice = going.copy()
            for end in (going.push(codes[:, 15:]), twice.push(codes[:, 15:])):
                np.testing.assert_allclose(np.concatenate([begun, end]), expected, atol=1e-5)


def test_a_native_decoder_goes_on_with_the_same_bits(model: Model) -> None:
    maker = NativeSessionFactory(model.network)
    codes = np.random.default_rng(0).integers(0, model.config.codebook_size, (1, 20))
    decoder, other = maker.decoder("zeros"), maker.decoder("zeros")
    decoder.push(codes)
    other.restore(decoder.save())
    fresh = maker.decoder("zeros")
    fresh.restore(maker.decoder("zeros").save())
    np.testing.assert_array_equal(other.push(codes), decoder.push(codes))
    np.testing.assert_array_equal(fresh.push(codes), maker.decoder("zeros").push(codes))


def test_ended_streams_and_wrong_input_are_refused_alike(makers: Makers, model: Model) -> None:
    for maker in makers:
        decoder = maker.decoder("zeros")
        assert decoder.push(np.zeros((1, 0), np.int16)).shape == (0,)
        with pytest.raises(UsageError, match=r"codes must be"):
            decoder.push(np.full((1, 1), model.config.codebook_size))
        assert decoder.flush().shape == (0,)
        with pytest.raises(UsageError, match="flushed"):
            decoder.push(np.zeros((1, 1), np.int16))
        encoder = maker.encoder(kbps_of(model), "zeros")
        assert encoder.push([]).shape[1] == 0
        with pytest.raises(UsageError, match="kbps"):
            encoder.kbps = 0.1
        encoder.push(np.zeros(model.hop_length + 0))
        encoder.flush()
        with pytest.raises(UsageError, match="flushed"):
            encoder.push([0.0])


def test_load_gives_the_engine_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(codec.load().encoder(), NativeEncoderSession)
    assert isinstance(codec.load(engine="native").decoder(), NativeDecoderSession)
    assert isinstance(codec.load(engine="torch").encoder(), TorchEncoderSession)
    with pytest.raises(UsageError, match="choose one of"):
        codec.load(engine="steam")  # type: ignore[arg-type]


def test_long_and_short_pushes_follow_each_other(tiny_model: Model, speech: Pcm) -> None:
    """Long pushes go through the network's own layers, short ones are matrix products."""
    parts = np.split(speech[: 90 * 320], [320 * n for n in (2, 3 + MOST_FRAMES, 3 + 2 * MOST_FRAMES, 70)])
    makers = (SessionFactory(tiny_model.network), TorchSessionFactory(tiny_model.network))
    sessions, decoders = (
        [maker.encoder(12.0, "zeros") for maker in makers],
        [maker.decoder("zeros") for maker in makers],
    )
    for part in parts:
        expected, codes = (session.push(part) for session in sessions)
        np.testing.assert_array_equal(codes, expected)
        sound, heard = (decoder.push(codes) for decoder in decoders)
        np.testing.assert_allclose(heard, sound, atol=1e-5)
    caches = sessions[1]._state.caches or []
    held = sum(cache.untyped_storage().nbytes() for cache in caches)
    assert held == 4 * sum(cache.numel() for cache in caches), "no window is held with its end"


def test_engines_and_sessions_share_packed_weights(tiny_model: Model) -> None:
    assert pack(tiny_model) is pack(tiny_model)
