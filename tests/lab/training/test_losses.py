"""Losses against their formulas, written another way: values and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
import torch
from torch import Tensor

from earshot.lab.mel import mel_filters
from earshot.lab.training.losses import (
    BandLevelLoss,
    CompressedLoss,
    MelLoss,
    PowerMelLoss,
    discriminator_hinge,
    feature_matching,
    generator_hinge,
    l1,
    relative_l1,
)


def noise(*shape: int, scale: float = 0.1, seed: int = 1) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradcheck(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    assert torch.autograd.gradcheck(function, [x.clone().requires_grad_() for x in inputs])


def test_l1_and_relative_l1() -> None:
    heard, spoken = torch.tensor([1.0, 2.0]), torch.tensor([2.0, -2.0])
    assert float(l1(heard, spoken)) == pytest.approx(2.5)
    assert float(relative_l1(heard, spoken)) == pytest.approx(2.5 / 2)
    gradcheck(lambda x: relative_l1(x, noise(2, 3)), noise(2, 3, seed=2))


def test_silence_has_a_finite_relative_l1() -> None:
    assert math.isfinite(float(relative_l1(torch.full((2, 1, 8), 1e-3), torch.zeros(2, 1, 8))))


def mel_of_scipy(x: npt.NDArray[np.float64], n: int, bands: int) -> npt.NDArray[np.float64]:
    """[B, T] -> [B, bands, frames]."""
    window = scipy.signal.get_window("hann", n)
    _, _, z = scipy.signal.stft(x, window=window, nperseg=n, noverlap=3 * n // 4, boundary="even", padded=False)
    power = np.abs(z * window.sum()) ** 2 / n
    return np.einsum("mf,bft->bmt", mel_filters(n, bands, 24_000), np.sqrt(power + 1e-9))


@pytest.mark.parametrize("windows", [(256,), (2048, 1024, 512, 256, 128, 64, 32)])
def test_mel_loss_is_the_formula(windows: tuple[int, ...]) -> None:
    heard, spoken = noise(2, 4001), noise(2, 4001, scale=0.2, seed=2)
    expected = 0.0
    for n in windows:
        a, b = (mel_of_scipy(x.numpy(), n, min(64, n // 4)) for x in (heard, spoken))
        log_error = np.log(a + 1e-4) - np.log(b + 1e-4)
        expected += (np.abs(a - b).mean() + np.sqrt((log_error**2).mean(axis=1)).mean()) / len(windows)
    loss = MelLoss(24_000, windows=windows)
    assert float(loss(heard.float(), spoken.float())) == pytest.approx(expected, rel=1e-5)
    assert float(loss(spoken.float(), spoken.float())) == 0


def mel_of_torch(heard: Tensor, spoken: Tensor, n: int) -> Tensor:
    """The loss of one window by torch's own STFT and its gradient."""
    a, b = (
        torch.from_numpy(mel_filters(n, min(64, n // 4), 24_000))
        @ (torch.stft(x, n, n // 4, window=torch.hann_window(n), normalized=True, return_complex=True))
        .abs().square().add(1e-9).sqrt()
        for x in (heard, spoken)
    )  # fmt: skip
    return (a - b).abs().mean() + ((a + 1e-4) / (b + 1e-4)).log().square().mean(dim=1).sqrt().mean()


@pytest.mark.parametrize("samples", [1536, 1999])
def test_gradient_of_the_mel_loss(samples: int) -> None:
    windows = (512, 128, 32)
    heard, spoken = noise(3, samples).requires_grad_(), noise(3, samples, scale=0.2, seed=2)
    loss = sum(mel_of_torch(heard, spoken, n) for n in windows) / 3
    assert isinstance(loss, Tensor)
    (expected,) = torch.autograd.grad(loss, heard)
    for dtype, tolerance in ((torch.float64, 1e-5), (torch.float32, 1e-3)):
        mel = MelLoss(24_000, windows=windows).to(dtype)
        (gradient,) = torch.autograd.grad(mel(heard.to(dtype), spoken.to(dtype)), heard)
        assert float((gradient - expected).norm() / expected.norm()) < tolerance


def test_gradient_of_the_mel_loss_by_differences() -> None:
    mel = MelLoss(8_000, bands=6, windows=(32, 16)).double()
    gradcheck(mel, noise(1, 2, 57), noise(1, 2, 57, scale=0.2, seed=2))


def test_mel_loss_averages_over_channels() -> None:
    mel = MelLoss(24_000, windows=(512, 64))
    heard, spoken = noise(2, 2, 2000).float(), noise(2, 2, 2000, seed=2).float()
    left, right = (mel(heard[:, c], spoken[:, c]) for c in (0, 1))
    assert torch.equal(mel(heard[:, :1], spoken[:, :1]), left)
    assert abs(float(left - right)) > 1e-4
    torch.testing.assert_close(mel(heard, spoken), (left + right) / 2)


def test_power_mel_loss_is_the_formula() -> None:
    heard, spoken = noise(2, 4001), noise(2, 4001, scale=0.2, seed=2)
    gain = 0.1 / np.sqrt((spoken.numpy() ** 2).mean(axis=1, keepdims=True))
    expected = 0.0
    for n in (512, 128):
        a, b = ((mel_of_scipy(x.numpy() * gain, n, min(80, n // 4)) + 1e-4) ** 0.3 for x in (heard, spoken))
        expected += np.abs(a - b).mean() / b.mean() / 2
    loss = PowerMelLoss(24_000, windows=(512, 128))
    assert float(loss(heard.float(), spoken.float())) == pytest.approx(expected, rel=1e-4)
    assert float(loss(spoken.float(), spoken.float())) == 0


def test_power_mel_loss_hears_a_whisper_as_it_hears_a_voice() -> None:
    heard, spoken = noise(2, 4001).float(), noise(2, 4001, scale=0.2, seed=2).float()
    loss = PowerMelLoss(24_000, windows=(512, 128))
    assert float(loss(heard / 20, spoken / 20)) == pytest.approx(float(loss(heard, spoken)), rel=1e-3)
    small = PowerMelLoss(8_000, bands=6, windows=(32, 16)).double()
    gradcheck(small, noise(1, 2, 57), noise(1, 2, 57, scale=0.2, seed=2))


def compressed_by_torch(heard: Tensor, spoken: Tensor, n: int, phase: float, below: float) -> Tensor:
    window = torch.hann_window(n).double()
    window = window / window.square().sum().sqrt()
    a, b = (torch.stft(x, n, n // 4, window=window, return_complex=True) for x in (heard, spoken))
    sizes = [(z.real**2 + z.imag**2 + 1e-8).sqrt() for z in (a, b)]
    levels = [size**0.3 for size in sizes]
    p, q = (z / size * level for z, size, level in zip((a, b), sizes, levels, strict=True))
    share = (phase * (torch.arange(n // 2 + 1) * 24_000 / n < below))[:, None]
    # A compressed level has the floor in it, the spectrum with a phase has not.
    return ((1 - share) * (levels[0] - levels[1]) ** 2 + share * ((p - q).real ** 2 + (p - q).imag ** 2)).mean()


@pytest.mark.parametrize(("phase", "below"), [(0.3, 3000), (1.0, 1e9), (0.0, 3000)])
def test_compressed_loss_and_its_gradient_are_the_formula(phase: float, below: float) -> None:
    heard, spoken = noise(3, 2000).requires_grad_(), noise(3, 2000, scale=0.2, seed=2)
    expected = sum(compressed_by_torch(heard, spoken, n, phase, below) for n in (256, 64)) / 2
    assert isinstance(expected, Tensor)
    loss = CompressedLoss(24_000, (256, 64), phase, below).double()
    value = loss(heard, spoken)
    assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    ours, theirs = (torch.autograd.grad(x, heard)[0] for x in (value, expected))
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5
    assert float(loss(spoken, spoken)) == 0


def test_compressed_loss_minds_phases_only_where_it_is_told_to() -> None:
    time = torch.arange(4800) / 24_000
    low, high = (torch.sin(2 * torch.pi * f * time)[None] for f in (500, 6000))
    losses = CompressedLoss(24_000, (256,), phase=0.5, phase_below=3000)
    assert 20 * float(losses(-high, high)) < float(losses(-low, low))


def test_band_levels_are_told_in_units_of_10_db_at_any_volume_and_phase() -> None:
    """Half the amplitude is 6.02 dB, of which 0.5 dB are what the loss leaves out near zero."""
    spoken, loss = noise(2, 1, 12_000).float(), BandLevelLoss(24_000)
    assert float(loss(spoken, spoken)) == 0
    for gain in (1.0, 0.02):
        assert float(loss(0.5 * gain * spoken, gain * spoken)) == pytest.approx(0.552, abs=0.002)
        assert float(loss(2 * gain * spoken, gain * spoken)) == pytest.approx(0.552, abs=0.002)
    assert float(loss(noise(2, 1, 12_000, seed=9).float(), spoken)) < 0.1  # another noise of the same level
    silence = torch.zeros_like(spoken)
    assert float(loss(silence, silence)) == 0
    assert math.isfinite(float(loss(silence, spoken)))
    assert float(loss(spoken, silence)) > 1


def test_band_levels_pull_a_quiet_band_up() -> None:
    """Where a band is 6 dB too low, the gradient points along what is missing."""
    spoken = noise(1, 12_000).float()
    high = torch.from_numpy(scipy.signal.sosfilt(scipy.signal.butter(8, 1500, "high", fs=24_000, output="sos"), spoken))
    heard = (spoken - 0.5 * high.float()).requires_grad_()
    (gradient,) = torch.autograd.grad(BandLevelLoss(24_000)(heard, spoken), heard)
    along = float((-gradient * high).sum() / (gradient.norm() * high.norm()))
    assert along > 0.5
    small = BandLevelLoss(8_000, bands=4).double()
    gradcheck(small, noise(1, 560), noise(1, 560, scale=0.2, seed=2))


def test_hinge_losses() -> None:
    real = [torch.tensor([[0.5, 2.0]]), torch.tensor([[-1.0]])]
    fake = [torch.tensor([[0.5, -3.0]]), torch.tensor([[1.0]])]
    assert float(generator_hinge(fake)) == pytest.approx(((0.5 + 4) / 2 + 0) / 2)
    assert float(discriminator_hinge(real, fake)) == pytest.approx(((0.5 + 0) / 2 + 2) / 2 + ((1.5 + 0) / 2 + 2) / 2)
    gradcheck(lambda a, b: generator_hinge([a, b]), noise(2, 3), noise(1, 4))
    gradcheck(lambda a, b, c, d: discriminator_hinge([a, b], [c, d]), noise(2, 3), noise(4), noise(3), noise(5))


def test_feature_matching_is_relative_and_leaves_the_real_alone() -> None:
    real = [[noise(2, 3), 100 * noise(4, seed=2)], [noise(5, seed=3)]]
    fake = [[noise(2, 3, seed=4), 100 * noise(4, seed=5)], [noise(5, seed=6)]]
    layers = [
        np.abs(a.numpy() - b.numpy()).sum() / np.abs(a.numpy()).sum()
        for a, b in ((real[0][0], fake[0][0]), (real[0][1], fake[0][1]), (real[1][0], fake[1][0]))
    ]
    assert float(feature_matching(real, fake)) == pytest.approx(sum(layers) / 3)
    gradcheck(lambda a, b, c: feature_matching(real, [[a, b], [c]]), *fake[0], *fake[1])
    leaf = real[0][0].clone().requires_grad_()
    trained = fake[0][0].clone().requires_grad_()
    feature_matching([[leaf]], [[trained]]).backward()
    assert leaf.grad is None
    assert trained.grad is not None


def test_bfloat16_logits_and_features_are_summed_in_float32() -> None:
    ones = [torch.full((1001,), 1.0, dtype=torch.bfloat16)]
    ones[0][0] = -1  # the mean needs ten bits: bfloat16 has eight
    assert float(generator_hinge(ones)) == pytest.approx(2 / 1001, rel=1e-6)
    zeros = torch.zeros(1001, dtype=torch.bfloat16)
    assert float(feature_matching([[zeros + 1]], [[zeros + ones[0]]])) == pytest.approx(2 / 1001, rel=1e-6)
    with pytest.raises(ValueError, match="shorter"):
        feature_matching([ones, ones], [ones])
