"""The decoder's postfilter: what it does to sound, and that streams in every engine do the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from earshot import codec
from earshot.codec.config import LITE_24KHZ, ModelConfig
from earshot.codec.engine.base import Engine
from earshot.codec.engine.native.engine import NativeEngine, pack
from earshot.codec.engine.native.sessions import NativeSessionFactory
from earshot.codec.engine.torch.engine import TorchEngine
from earshot.codec.engine.torch.sessions import TorchSessionFactory
from earshot.codec.errors import ModelError
from earshot.codec.model.model import Model, SessionFactory
from earshot.codec.model.network import Encodec, without_postfilter
from earshot.codec.model.postfilter import TAPS, WINDOW, Postfilter, window
from earshot.codec.pcm import Pcm

HOP = 320
KERNELS = ["portable", "auto"]


def filtered(speech: Pcm, fine: float, coarse: float, hop: int = HOP) -> Tensor:
    x = torch.from_numpy(speech)[None, None]
    y, _ = Postfilter(hop, fine, coarse).step(x, None, "zeros", last=True)
    return y[0, 0]


def power(x: Tensor) -> Tensor:
    """[frames, bins]"""
    return torch.stft(x, WINDOW, WINDOW // 4, window=torch.hann_window(WINDOW), return_complex=True).abs().square().t()


def contrast(x: Tensor, bins: int) -> float:
    """Standard deviation in dB of `bins` bins, where the sound is not faint."""
    loud = power(x)
    loud = loud[loud.sum(1) > 0.01 * loud.sum(1).max()]
    return float((10 * torch.log10(loud + 1e-9 * loud.max())).unfold(1, bins, 1).std(-1).mean())


@pytest.fixture(scope="module")
def network(tiny_model: Model) -> Encodec:
    """The tiny network with a postfilter."""
    made = Encodec(replace(tiny_model.config, postfilter=(0.4, 0.2)))
    made.load_state_dict(tiny_model.network.state_dict())
    return made.eval()


@pytest.fixture(scope="module")
def codes(network: Encodec, speech: Pcm) -> np.ndarray:
    n_q = network.config.n_codebooks
    return network.encode(torch.from_numpy(speech[: 60 * HOP])[None, None], n_q)[0].numpy().astype(np.int16)


def test_contrast_rises_and_the_level_stays(speech: Pcm) -> None:
    """In the presence of noise, as a codec makes it."""
    noisy = speech[: 150 * HOP] + 0.01 * np.random.default_rng(1).standard_normal(150 * HOP).astype(np.float32)
    before, fine, coarse = torch.from_numpy(noisy), filtered(noisy, 0.5, 0.0), filtered(noisy, 0.0, 0.5)
    assert contrast(fine, 9) > 1.08 * contrast(before, 9)
    assert contrast(coarse, 121) > 1.05 * contrast(before, 121)
    for after in (fine, coarse):
        assert float(after.square().sum() / before.square().sum()) == pytest.approx(1.0, rel=0.25), "within 1 dB"


def test_nothing_comes_before_its_cause_or_late() -> None:
    """A click stays where it is, and what comes later does not change what was."""
    x = np.zeros(10 * HOP, np.float32)
    x[1500] = 0.5
    y = filtered(x, 0.5, 0.3).numpy()
    assert np.abs(y).argmax() == 1500
    np.testing.assert_allclose(y[:1500], 0, atol=1e-6)
    longer = np.concatenate([x, np.random.default_rng(1).standard_normal(5 * HOP).astype(np.float32)])
    np.testing.assert_allclose(filtered(longer, 0.5, 0.3)[: len(x)], y, atol=1e-6)


def test_silence_stays_silent_and_no_exponent_changes_nothing(speech: Pcm) -> None:
    assert not filtered(np.zeros(5 * HOP, np.float32), 0.5, 0.3).any()
    np.testing.assert_allclose(filtered(speech[: 50 * HOP], 0.0, 0.0), speech[: 50 * HOP], atol=2e-5)


def test_the_filter_has_the_gains_that_were_asked_for(speech: Pcm) -> None:
    """By the definition, one frame: magnitudes of its whole impulse response, in dB."""
    segment = torch.from_numpy(speech[8000 : 8000 + WINDOW])
    taps = Postfilter(HOP, 0.3, 0.2).change(segment)
    assert taps.shape == (TAPS,)
    taps[0] += 1
    bins = (torch.fft.rfft(segment * window(torch.device("cpu"))).abs().square() + 1e-7).double().numpy()
    near, far = (np.array([bins[max(0, k - side) : k + side + 1].mean() for k in range(len(bins))]) for side in (4, 60))
    gain = np.clip((bins / near) ** 0.15 * (near / far) ** 0.1, 1e-3, 1.5)
    gain /= np.sqrt((bins * gain**2).sum() / bins.sum())
    found = torch.fft.rfft(taps, WINDOW).abs().numpy()
    loud = bins > 1e-4 * bins.max()
    assert np.abs(20 * np.log10(found / gain))[loud].max() < 1.0, "the response is cut after 512 taps"


@pytest.mark.parametrize("sizes", [[1], [1, 2, 7, 5]])
def test_sessions_of_every_kind_equal_the_whole_signal(network: Encodec, codes: np.ndarray, sizes: list[int]) -> None:
    expected = network.decode(torch.from_numpy(codes.astype(np.int64))[None])[0, 0].numpy()
    assert (
        np.abs(
            expected - without_postfilter(network).decode(torch.from_numpy(codes.astype(np.int64))[None])[0, 0].numpy()
        ).max()
        > 1e-3
    )
    makers = [SessionFactory(network), TorchSessionFactory(network)]
    makers += [NativeSessionFactory(network, kernels) for kernels in KERNELS]
    for maker in makers:
        session, heard, at = maker.decoder("zeros"), [], 0
        while at < codes.shape[1]:
            size = sizes[len(heard) % len(sizes)]
            heard.append(session.push(codes[:, at : at + size]))
            at += size
            if len(heard) == 7:
                saved, session = session.save(), maker.decoder("zeros")
                session.restore(saved)
            elif len(heard) == 9:
                session = session.copy()
        assert np.abs(np.concatenate(heard) - expected).max() < 1e-5
    reflecting = SessionFactory(network).decoder("reflect")
    assert len(np.concatenate([reflecting.push(codes), reflecting.flush()])) == len(expected)


def test_the_default_model_has_one_in_every_engine(speech: Pcm) -> None:
    """Loaded from its file: there, no tensor has memory before it is read."""
    models = [codec.load("default", engine=engine) for engine in ("native", "torch")]
    assert models[0].config.postfilter is not None
    codes = models[0].encode(speech[: 20 * HOP], 6.0)
    native, fast = (model.decode(codes) for model in models)
    assert np.abs(native - fast).max() < 1e-5
    reference = models[1].network.decode(torch.from_numpy(codes.astype(np.int64))[None])[0, 0].numpy()
    assert np.abs(native - reference).max() < 1e-5


def test_what_the_native_engine_saved_goes_on_in_torch(network: Encodec, codes: np.ndarray) -> None:
    expected = network.decode(torch.from_numpy(codes.astype(np.int64))[None])[0, 0].numpy()
    native, reference = NativeSessionFactory(network).decoder("zeros"), SessionFactory(network).decoder("zeros")
    native.push(codes[:, :20])
    reference.restore(native.save())
    assert np.abs(reference.push(codes[:, 20:]) - expected[20 * HOP :]).max() < 1e-5


@pytest.mark.parametrize("make", [TorchEngine, lambda model: NativeEngine(model, pack(model))])
def test_engines_filter_each_of_many_streams(make: type[Engine], network: Encodec, codes: np.ndarray) -> None:
    """Streams at different places of the same codes, stepped together, one of them begun anew."""
    model = Model(network)
    expected = network.decode(torch.from_numpy(codes.astype(np.int64))[None])[0, 0].numpy().reshape(-1, HOP)
    engine = make(model)
    slots = [engine.open_decoder() for _ in range(5)]
    for index, slot in enumerate(slots):
        for frame in range(index):
            engine.decode([slot], [codes[:, frame]])
    for step in range(20):
        heard = engine.decode(slots, [codes[:, index + step] for index in range(5)])
        assert np.abs(heard - expected[step : step + 5]).max() < 1e-5
    engine.reset(slots[3])
    assert np.abs(engine.decode([slots[3]], [codes[:, 0]])[0] - expected[0]).max() < 1e-5


def test_it_is_no_part_of_what_codes_mean(network: Encodec) -> None:
    plain = without_postfilter(network)
    assert plain.digest() == network.digest()
    assert plain.config.postfilter is None
    assert without_postfilter(plain) is plain
    assert network.state_dict().keys() == plain.state_dict().keys()
    assert ModelConfig.from_dict(network.config.to_dict()) == network.config


@pytest.mark.parametrize(
    ("exponents", "told"),
    [((0.3,), "two numbers in 0..2"), ((0.3, 3.0), "two numbers in 0..2"), (("a", "b"), "two numbers in 0..2")],
)
def test_exponents_that_there_are_not(exponents: tuple[float, float], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        replace(LITE_24KHZ, postfilter=exponents)


def test_models_that_it_is_not_for() -> None:
    for change in ({"channels": 2, "causal": False}, {"ratios": (8, 8, 5, 2)}):
        with pytest.raises(ModelError, match="frames of at most 512 samples"):
            replace(LITE_24KHZ, postfilter=(0.3, 0.1), **change)
