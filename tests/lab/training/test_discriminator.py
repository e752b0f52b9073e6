"""The discriminator against the `encodec` package's, and what it does under autocast."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from earshot.lab.training.discriminator import WINDOWS, Discriminator

TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


class Spectrogram(nn.Module):
    """What the package uses of torchaudio's class, which divides by the window's norm if
    `normalized`."""

    def __init__(self, n_fft: int, hop_length: int, win_length: int, **options: Any) -> None:
        super().__init__()
        assert (win_length, options["normalized"], options["center"], options["power"]) == (n_fft, True, False, None)
        self.hop, self.window = hop_length, options["window_fn"](n_fft)

    def forward(self, x: Tensor) -> Tensor:
        n = len(self.window)
        z = torch.stft(x.flatten(0, 1), n, self.hop, window=self.window, center=False, return_complex=True)
        return z.unflatten(0, x.shape[:2]) / self.window.pow(2).sum().sqrt()


@pytest.fixture
def msstftd(encodec: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    stub = ModuleType("torchaudio")
    stub.transforms = ModuleType("transforms")  # type: ignore[attr-defined]
    stub.transforms.Spectrogram = Spectrogram
    monkeypatch.setitem(sys.modules, "torchaudio", stub)
    yield importlib.import_module("encodec.msstftd")
    sys.modules.pop("encodec.msstftd", None)


def pairs(ours: Discriminator, theirs: Any) -> Iterator[tuple[Any, Any]]:
    """(our convolution, theirs), all of them."""
    for scale, discriminator in zip(ours.scales, theirs.discriminators, strict=True):
        convs = [*discriminator.convs, discriminator.conv_post]
        yield from zip([*scale.layers, scale.last], [wrapped.conv for wrapped in convs], strict=True)


@torch.no_grad()
def copy(ours: Discriminator, theirs: Any) -> None:
    for our, their in pairs(ours, theirs):
        their.bias.normal_(std=0.1)
        our.bias.copy_(their.bias)
        if hasattr(their, "weight_g"):
            their.weight_g.mul_(torch.empty_like(their.weight_g).uniform_(0.5, 2))
            our.parametrizations.weight.original0.copy_(their.weight_g)
            our.parametrizations.weight.original1.copy_(their.weight_v)
        else:  # the package's first convolution is not normalised
            our.weight = their.weight.detach()


@pytest.mark.parametrize("channels", [1, 2])
def test_it_is_the_package_s(channels: int, msstftd: Any) -> None:
    torch.manual_seed(channels)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.nn.utils.weight_norm` is deprecated", FutureWarning)
        scales: dict[str, Any] = {"n_ffts": WINDOWS, "win_lengths": WINDOWS, "hop_lengths": [n // 4 for n in WINDOWS]}
        theirs = msstftd.MultiScaleSTFTDiscriminator(4, in_channels=channels, **scales)
    ours = Discriminator(channels, filters=4)
    copy(ours, theirs)
    x = 0.3 * torch.randn(2, channels, 2999)
    results, gradients = [], []
    for net in (ours, theirs):
        leaf = x.clone().requires_grad_()
        logits, features = net(leaf)
        results.append((logits, features))
        loss = sum(y.square().mean() for layers in [logits, *features] for y in layers)
        loss.backward()
        gradients.append(leaf.grad)
    assert [len(layers) for layers in results[0][1]] == [5] * 5
    torch.testing.assert_close(*results, **TOLERANCE)
    torch.testing.assert_close(*gradients, **TOLERANCE)
    for our, their in pairs(ours, theirs):
        torch.testing.assert_close(our.bias.grad, their.bias.grad, **TOLERANCE)
        if hasattr(their, "weight_g"):
            weight = our.parametrizations.weight
            torch.testing.assert_close(weight.original0.grad, their.weight_g.grad, **TOLERANCE)
            torch.testing.assert_close(weight.original1.grad, their.weight_v.grad, **TOLERANCE)


def test_the_paper_s_shape() -> None:
    net = Discriminator()
    logits, features = net(torch.zeros(1, 1, 4096))
    frames, bins = [1 + (4096 - n) * 4 // n for n in WINDOWS], [n // 2 + 1 for n in WINDOWS]
    for scale, (count, width) in enumerate(zip(frames, bins, strict=True)):
        widths = [width, *((width + 2**k - 1) // 2**k for k in (1, 2, 3)), (width + 7) // 8]
        assert [tuple(y.shape) for y in features[scale]] == [(1, 32, count, w) for w in widths]
        assert logits[scale].shape == (1, 1, count, widths[-1])


def test_gradient_by_differences() -> None:
    torch.manual_seed(3)
    net = Discriminator(2, filters=2, windows=(16, 8)).double()
    x = torch.randn(1, 2, 24, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: tuple(net(x)[0]), [x])


def test_autocast_keeps_the_spectrum_in_float32() -> None:
    torch.manual_seed(4)
    net = Discriminator(filters=8, windows=(512, 128))
    x = 0.1 * torch.randn(2, 1, 2048)
    expected = net(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        spectrum = net.scales[0].spectrum(x)
        logits, features = net(x)
    assert torch.equal(spectrum, net.scales[0].spectrum(x))
    assert {y.dtype for layers in features for y in layers} == {torch.bfloat16}
    for y, z in zip(logits, expected, strict=True):
        torch.testing.assert_close(y.float(), z, rtol=0.05, atol=0.02)
    sum(y.float().mean() for y in logits).backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())
