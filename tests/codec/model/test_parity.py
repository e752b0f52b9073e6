"""Our codec against the official packages, with random weights of the official shapes: the codes
must be equal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from earshot import codec
from earshot.codec.bitstream import Codes
from earshot.codec.engine.native.sessions import NativeSessionFactory
from earshot.codec.engine.torch.sessions import TorchSessionFactory
from earshot.codec.model.model import Model, SessionFactory
from earshot.codec.model.quantizer import ResidualVectorQuantizer
from earshot.codec.model.seanet import SEANet
from earshot.codec.model.streaming import EncoderSession, StreamState
from earshot.codec.pcm import Pcm

BLOCKS = [320, 1, 7, 160, 333, 960, 4096, None]
FRAMES = 1501
WHOLE = {16: [320, 4096, None], 32: [4096, None]}
"""Block sizes in which the model with so many filters gets all 20 s. Blocks of 1, 7 and 160 samples
lead to the same steps as 320, and 333 and 960 lead to longer ones, of which 2 s hold enough."""
SHORT_FRAMES = 150


def takes_all(n_filters: int, start: str) -> bool:
    """Whether all 20 s are coded in steps. The two starts differ in the first frames alone: in the
    full size 2 s of the one that live streams do not have hold enough."""
    return n_filters == 16 or start == "zeros"


class Oracle(NamedTuple):
    """The official model, ours loaded from its file, the codes that the official offline code makes
    of the speech, and its sound from these codes: all 20 s at 6 kbps (`takes_all`), and 2 s at
    the other rates."""

    official: dict[str, Any]
    ours: Model
    latents: dict[str, torch.Tensor]
    codes: dict[tuple[str, float], Codes]
    heard: dict[tuple[str, float], tuple[Codes, Pcm]]


def official_codes(model: Any, latents: torch.Tensor, kbps: float) -> Codes:
    return model.quantizer.encode(latents, model.frame_rate, kbps)[:, 0].numpy().astype(np.int16)


def official_sound(model: Any, codes: Codes) -> Pcm:
    with torch.no_grad():
        latents = model.quantizer.decode(torch.from_numpy(codes.astype(np.int64))[:, None])
        sound: Pcm = model.decoder(latents)[0, 0].numpy()
    return sound


@pytest.fixture(scope="module", params=[(16, 16), (32, 32)], ids=["default size", "full size"])
def oracle(
    request: pytest.FixtureRequest,
    random_encodec: Callable[..., Any],
    save_official: Callable[[Any, Path], Path],
    speech: Pcm,
    tmp_path_factory: pytest.TempPathFactory,
) -> Oracle:
    n_filters, n_q = request.param
    reflect = random_encodec(n_filters, "reflect", seed=1, n_q=n_q)
    zeros = random_encodec(n_filters, "constant", seed=1, n_q=n_q)
    zeros.load_state_dict(reflect.state_dict())
    official = {"reflect": reflect, "zeros": zeros}
    ours = codec.load(str(save_official(reflect, tmp_path_factory.mktemp("official"))), engine="torch")
    assert list(ours.bandwidths) == reflect.target_bandwidths
    with torch.no_grad():
        latents = {start: model.encoder(torch.from_numpy(speech)[None, None]) for start, model in official.items()}
        codes = {
            (start, kbps): official_codes(model, latents[start], kbps)
            for start, model in official.items()
            for kbps in ours.bandwidths
        }
    some = {
        (start, kbps): own if kbps == 6.0 and takes_all(n_filters, start) else own[:, :SHORT_FRAMES]
        for (start, kbps), own in codes.items()
    }
    heard = {(start, kbps): (own, official_sound(official[start], own)) for (start, kbps), own in some.items()}
    return Oracle(official, ours, latents, codes, heard)


def push_in_blocks(session: EncoderSession, pcm: Pcm, block: int | None) -> Iterator[Codes]:
    for begin in range(0, pcm.size, block or pcm.size):
        yield session.push(pcm[begin : begin + (block or pcm.size)])
    yield session.flush()


Steps = dict[bytes, Any]


@pytest.fixture(scope="module")
def memory(oracle: Oracle) -> Steps:
    return {}


@pytest.fixture
def remembered(memory: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches steps. A step is a pure function of its input and state, and most block sizes lead to
    the same steps. Each is computed once, and taken from the cache only if every input, from the
    start of the stream on, was the same bytes. Codes of latents with the same bytes are cached
    too."""
    compute, search = StreamState.step, ResidualVectorQuantizer.encode

    def step(self: StreamState, net: SEANet, x: torch.Tensor, last: bool) -> torch.Tensor:
        history: bytes = self.history if self.caches else self.padding.encode()  # type: ignore[attr-defined]
        key = hashlib.sha256(history + bytes([last]) + x.numpy().tobytes()).digest()
        if key not in memory:
            y = compute(self, net, x, last)
            memory[key] = y, [cache.clone() for cache in self.caches or []]
        y, self.caches = memory[key]
        self.history = key  # type: ignore[attr-defined]
        return y

    def encode(self: ResidualVectorQuantizer, latents: torch.Tensor, n_q: int) -> torch.Tensor:
        key = hashlib.sha256(bytes([n_q]) + latents.numpy().tobytes()).digest()
        if key not in memory:
            memory[key] = search(self, latents, n_q)
        codes: torch.Tensor = memory[key]
        return codes

    monkeypatch.setattr(StreamState, "step", step)
    monkeypatch.setattr(ResidualVectorQuantizer, "encode", encode)


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("start", ["reflect", "zeros"])
@pytest.mark.parametrize("block", BLOCKS)
def test_streamed_codes_are_the_official_ones(oracle: Oracle, speech: Pcm, start: Any, block: int | None) -> None:
    """Encodes all of it with the partial tail, or the beginning."""
    session = SessionFactory(oracle.ours.network).encoder(oracle.ours.bandwidths[-1], start)
    n_filters = oracle.ours.config.n_filters
    short = block not in WHOLE[n_filters] or not (block is None or takes_all(n_filters, start))
    pcm = speech[: SHORT_FRAMES * 320] if short else speech
    *pushed, flushed = push_in_blocks(session, pcm, block)
    codes = np.concatenate(pushed if short else [*pushed, flushed], axis=1)
    assert codes.shape[1] == (SHORT_FRAMES if short else FRAMES)
    for kbps in oracle.ours.bandwidths:
        expected = oracle.codes[start, kbps][:, : codes.shape[1]]
        np.testing.assert_array_equal(codes[: len(expected)], expected)


FAST: dict[str, type[SessionFactory]] = {"torch": TorchSessionFactory, "native": NativeSessionFactory}


@pytest.mark.parametrize("engine", FAST)
@pytest.mark.parametrize("start", ["reflect", "zeros"])
def test_codes_of_the_engines_are_the_official_ones(oracle: Oracle, speech: Pcm, start: Any, engine: str) -> None:
    session = FAST[engine](oracle.ours.network).encoder(oracle.ours.bandwidths[-1], start)
    short = not takes_all(oracle.ours.config.n_filters, start)
    *pushed, flushed = push_in_blocks(session, speech[: SHORT_FRAMES * 320] if short else speech, 1000)
    codes = np.concatenate(pushed if short else [*pushed, flushed], axis=1)
    assert codes.shape[1] == (SHORT_FRAMES if short else FRAMES)
    for kbps in oracle.ours.bandwidths:
        expected = oracle.codes[start, kbps][:, : codes.shape[1]]
        np.testing.assert_array_equal(codes[: len(expected)], expected)


@pytest.mark.parametrize("engine", ["layers", *FAST])
@pytest.mark.parametrize("start", ["reflect", "zeros"])
def test_streamed_decoder_is_the_official_one(oracle: Oracle, start: Any, engine: str) -> None:
    """Decodes 20 s (`takes_all`) in packets of 1 to 16 frames, and 2 s at every other rate: a rate
    changes only a sum of vectors."""
    sessions = FAST.get(engine, SessionFactory)(oracle.ours.network)
    for kbps in oracle.ours.bandwidths:
        codes, expected = oracle.heard[start, kbps]
        session, sizes = sessions.decoder(start), np.random.default_rng(2).integers(1, 17, 400)
        cuts = [0, *np.cumsum(sizes)[np.cumsum(sizes) < codes.shape[1]], codes.shape[1]]
        heard = [session.push(codes[:, a:b]) for a, b in pairwise(cuts)]
        np.testing.assert_allclose(np.concatenate([*heard, session.flush()]), expected, rtol=0, atol=1e-5)


def test_offline_use_is_the_official_one(oracle: Oracle, speech: Pcm) -> None:
    codes = oracle.ours.encode(speech[: 24_000 + 137], 12.0)
    with torch.no_grad():
        latents = oracle.official["reflect"].encoder(torch.from_numpy(speech[: 24_000 + 137])[None, None])
        np.testing.assert_array_equal(codes, official_codes(oracle.official["reflect"], latents, 12.0))
        expected = oracle.official["reflect"].decode([(torch.from_numpy(codes.astype(np.int64))[None], None)])[0, 0]
    np.testing.assert_allclose(oracle.ours.decode(codes), expected, rtol=0, atol=1e-5)


def test_the_rate_may_change_between_frames(oracle: Oracle, speech: Pcm) -> None:
    session, random = oracle.ours.encoder(1.5), np.random.default_rng(4)
    for frame in range(100):
        session.kbps = kbps = float(random.choice(oracle.ours.bandwidths))
        codes = session.push(speech[320 * frame : 320 * (frame + 1)])
        np.testing.assert_array_equal(codes, oracle.codes["zeros", kbps][:, frame : frame + 1])


@pytest.mark.parametrize("samples", [1, 2, 319, 320, 321, 960, 1919, 2239, 2240, 2241, 2559, 2560])
@pytest.mark.parametrize("start", ["reflect", "zeros"])
def test_short_streams(oracle: Oracle, speech: Pcm, samples: int, start: Any) -> None:
    """Streams down to one sample. A reflecting stream with fewer than seven frames returns all it
    has at the end."""
    pcm = speech[24_000 : 24_000 + samples]
    with torch.no_grad():
        latents = oracle.official[start].encoder(torch.from_numpy(pcm)[None, None])
        expected = official_codes(oracle.official[start], latents, 6.0)
        decoded = oracle.official[start].decode([(torch.from_numpy(expected.astype(np.int64))[None], None)])[0, 0]
    session, decoder = oracle.ours.encoder(6.0, start), oracle.ours.decoder(start)
    codes = np.concatenate(list(push_in_blocks(session, pcm, 100)), axis=1)
    np.testing.assert_array_equal(codes, expected)
    heard = [decoder.push(codes[:, i : i + 1]) for i in range(codes.shape[1])]
    if start == "reflect" and codes.shape[1] < 7:
        assert not any(part.size for part in heard)
    np.testing.assert_allclose(np.concatenate([*heard, decoder.flush()]), decoded, rtol=0, atol=1e-5)


def test_copied_saved_and_interleaved_sessions(oracle: Oracle, speech: Pcm) -> None:
    """A copy, a session that was restored from a saved state, and one that was reset continue
    without any influence from others."""
    for start in ("reflect", "zeros"):
        expected = oracle.codes[start, 6.0]
        one, other = oracle.ours.encoder(6.0, start), oracle.ours.encoder(6.0, start)
        got: list[Codes] = [one.push(speech[:5000])]
        other.push(speech[7000:12_000])
        got.append(one.push(speech[5000:5100]))
        other.reset()
        twin = one.copy()
        restored = oracle.ours.encoder(6.0, start)
        restored.restore(one.save())
        one.push(speech[9000:16_000])
        for session in (twin, restored, other):
            rest = speech[0 if session is other else 5100 : 24_000]
            codes = np.concatenate([*([] if session is other else got), session.push(rest)], axis=1)
            np.testing.assert_array_equal(codes, expected[:, : codes.shape[1]])
