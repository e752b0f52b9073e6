"""What the generator and the discriminator are trained on (arXiv 2210.13438, section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from earshot.lab.mel import mel_filters

WINDOWS = (2048, 1024, 512, 256, 128, 64, 32)
"""The paper's 2^5..2^11, for 24 kHz. At 48 kHz it doubles them."""

LOUDNESS = 0.1
"""RMS at which power spectra are compared."""
QUIET = 1e-3
"""RMS below which an example is not made louder for that."""


def l1(heard: Tensor, spoken: Tensor) -> Tensor:
    """Mean absolute error of the waveform, of any shape."""
    return F.l1_loss(heard, spoken)


def relative_l1(heard: Tensor, spoken: Tensor) -> Tensor:
    """Mean absolute error over mean absolute value: quiet batches count as much as loud ones,
    silence stays finite."""
    return l1(heard, spoken) / spoken.abs().mean().clamp(min=1e-6)


def frames_gradient(spectrum: Tensor, window: Tensor, length: int) -> Tensor:
    """Gradient of the frames' spectra, [B, frames, n / 2 + 1] (spoilt on the way) -> that of the
    signal [B, length]."""
    n = window.numel()
    hop = n // 4
    spectrum[..., 1:-1] *= 0.5  # irfft counts each bin but the first and the last twice, rfft's adjoint counts it once
    frames: Tensor = torch.fft.irfft(spectrum, n, norm="forward").mul_(window)
    count = frames.shape[1]
    x = frames.new_zeros(frames.shape[0], length)
    quarters = x[:, : (count + 3) * hop].view(-1, count + 3, hop)
    for k in range(4):
        quarters[:, k : k + count] += frames[..., k * hop : (k + 1) * hop]
    return x


class _Magnitude(torch.autograd.Function):
    """[B, T], window [n] -> [B, frames, n / 2 + 1]: sqrt(|STFT|^2 + 1e-9), hop n / 4, without
    padding.

    By hand because torch's own backward takes a complex FFT for each real one and adds frames up by
    index: on a CPU the mel loss takes half as long this way (45 ms instead of 90 for 14 x 15,360
    samples on one core). Squares are added as they are because summing a dimension of two, or a
    complex abs(), takes five times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Tensor) -> Tensor:
        n = window.numel()
        spectrum = torch.fft.rfft(x.unfold(1, n, n // 4) * window)
        squares = torch.view_as_real(spectrum).square()
        magnitude = (squares[..., 0] + squares[..., 1]).add_(1e-9).sqrt_()
        ctx.save_for_backward(spectrum, magnitude, window)
        ctx.length = x.shape[1]
        return magnitude

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        spectrum, magnitude, window = ctx.saved_tensors
        return frames_gradient(spectrum * (gradient / magnitude), window, ctx.length), None


_magnitude = cast(Callable[[Tensor, Tensor], Tensor], _Magnitude.apply)


class MelLoss(nn.Module):
    """L1 of mel magnitudes plus L2 of log mel magnitudes, averaged over windows; hop a quarter of
    the window.

    `windows`: lengths in samples, multiples of 4. Short ones get at most a band for every two bins;
    the lowest bands may still fall between bins and weigh nothing."""

    def __init__(self, sample_rate: int, bands: int = 64, windows: Sequence[int] = WINDOWS) -> None:
        super().__init__()
        self.windows = tuple(windows)
        for n in self.windows:
            self.register_buffer(f"window_{n}", torch.hann_window(n) / math.sqrt(n), persistent=False)
            filters = torch.from_numpy(mel_filters(n, min(bands, n // 4), sample_rate)).float().t().contiguous()
            self.register_buffer(f"filters_{n}", filters, persistent=False)

    def forward(self, heard: Tensor, spoken: Tensor) -> Tensor:
        """[B, T] or [B, C, T], both alike -> scalar, the mean over channels. T is more than half
        the longest window.

        Not under autocast: the magnitudes need float32.
        """
        loss = heard.new_zeros(())
        for a, b in self._mels(heard, spoken):
            log_error = torch.log(a + 1e-4) - torch.log(b + 1e-4)
            loss = loss + (a - b).abs().mean() + log_error.pow(2).mean(dim=2).sqrt().mean()
        return loss / len(self.windows)

    def _mels(self, heard: Tensor, spoken: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Mel magnitudes of both, [B, frames, bands], window by window."""
        pad = max(self.windows) // 2
        padded = [F.pad(x.flatten(0, -2)[:, None], (pad, pad), mode="reflect")[:, 0] for x in (heard, spoken)]
        for n in self.windows:
            window, filters = getattr(self, f"window_{n}"), getattr(self, f"filters_{n}")
            # The reflection a short window needs is the inner part of what the longest needs.
            inner = slice(pad - n // 2, padded[0].shape[1] - pad + n // 2)
            a, b = (_magnitude(x[:, inner], window) @ filters for x in padded)
            yield a, b


class PowerMelLoss(MelLoss):
    """L1 of mel magnitudes to a power, both at the loudness of what was spoken, over the mean of
    the spoken ones; averaged over windows.

    A logarithm's gradient is largest where nothing is audible; a power counts what is heard, at any
    volume."""

    def __init__(self, sample_rate: int, bands: int = 80, windows: Sequence[int] = WINDOWS, power: float = 0.3) -> None:
        super().__init__(sample_rate, bands, windows)
        self.power = power

    def forward(self, heard: Tensor, spoken: Tensor) -> Tensor:
        """[B, T] or [B, C, T], both alike -> scalar. Not under autocast."""
        gain = LOUDNESS / spoken.square().mean(dim=-1, keepdim=True).sqrt().clamp(min=QUIET)
        loss = heard.new_zeros(())
        for a, b in self._mels(heard * gain, spoken * gain):
            a, b = ((x + 1e-4).pow(self.power) for x in (a, b))
            loss = loss + (a - b).abs().mean() / b.mean()
        return loss / len(self.windows)


class _Compressed(torch.autograd.Function):
    """[B, T] heard and spoken -> mean squared error of STFT magnitudes to a power, and, for the
    share `phase` [bins] of each bin, of the same magnitudes with their phases. No padding, hop n /
    4.

    By hand, because the gradient has a short form and torch's own takes three times as long.
    """

    @staticmethod
    def forward(ctx: Any, heard: Tensor, spoken: Tensor, window: Tensor, phase: Tensor, power: float) -> Tensor:
        n = window.numel()
        ours, theirs = (
            torch.view_as_real(torch.fft.rfft(x.unfold(1, n, n // 4) * window)).unbind(-1) for x in (heard, spoken)
        )
        sizes = [(re * re).addcmul_(im, im).add_(1e-8) for re, im in (ours, theirs)]
        small = [size.pow((power - 1) / 2) for size in sizes]  # what turns a spectrum into a compressed one
        levels = [size.sqrt().mul_(scale) for size, scale in zip(sizes, small, strict=True)]
        louder = levels[0] - levels[1]
        re, im = (a * small[0] - b * small[1] for a, b in zip(ours, theirs, strict=True))
        error = (re * re).addcmul_(im, im)
        loss = (louder.square().mul_(1 - phase) + error * phase).mean()
        # d loss / d spectrum: along the spectrum itself by its level, and by the error's own
        # direction
        along = louder.mul_(levels[0]).mul_(power * (1 - phase))
        along += (re * ours[0]).addcmul_(im, ours[1]).mul_(small[0]).mul_((power - 1) * phase)
        along.div_(sizes[0])
        beside = small[0].mul_(phase)
        scale = 2 / error.numel()
        spectrum = torch.complex(
            (ours[0] * along).addcmul_(re, beside).mul_(scale), (ours[1] * along).addcmul_(im, beside).mul_(scale)
        )
        ctx.save_for_backward(spectrum, window)
        ctx.length = heard.shape[1]
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        spectrum, window = ctx.saved_tensors
        return frames_gradient(spectrum * gradient, window, ctx.length), None, None, None, None


_compressed = cast(Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor], _Compressed.apply)


class CompressedLoss(nn.Module):
    """Squared error of power-compressed spectra, averaged over windows; hop a quarter of the
    window.

    Below `phase_below` Hz the share `phase` of it minds phases, above it none: where a phase cannot
    be coded, the cheapest spectrum with one is a quiet one."""

    def __init__(
        self,
        sample_rate: int,
        windows: Sequence[int],
        phase: float = 0.3,
        phase_below: float = 3000,
        power: float = 0.3,
    ) -> None:
        super().__init__()
        self.windows, self.power = tuple(windows), power
        for n in self.windows:
            window = torch.hann_window(n)
            self.register_buffer(f"window_{n}", window / window.square().sum().sqrt(), persistent=False)
            bins = torch.arange(n // 2 + 1) * (sample_rate / n)
            self.register_buffer(f"phase_{n}", phase * (bins < phase_below).float(), persistent=False)

    def forward(self, heard: Tensor, spoken: Tensor) -> Tensor:
        """[B, T] or [B, C, T], both alike -> scalar. Not under autocast."""
        loss = heard.new_zeros(())
        for n in self.windows:
            a, b = (F.pad(x.flatten(0, -2)[:, None], (n // 2, n // 2), mode="reflect")[:, 0] for x in (heard, spoken))
            loss = loss + _compressed(a, b, getattr(self, f"window_{n}"), getattr(self, f"phase_{n}"), self.power)
        return loss / len(self.windows)


class BandLevelLoss(nn.Module):
    """How far the levels of bands, over 0.1 s each, are from those of what was spoken.

    A magnitude that cannot be told is cheapest a little too low: what minds single frames alone
    leaves bands 4 dB too quiet. This sees means of power, which can be told. A difference in dB
    counts up to its first power only, and by the root of the band's amplitude: a logarithm alone
    would spend its gradient on what is hardly heard."""

    WINDOW, FRAMES = 1024, 8
    FAINT = 1e-4
    """Power of a band, relative to the loudest one of the example, below which it counts no
    more."""

    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, bands: int = 24) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(self.WINDOW) / math.sqrt(self.WINDOW), persistent=False)
        filters = torch.from_numpy(mel_filters(self.WINDOW, bands, sample_rate)).float().t().contiguous()
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, heard: Tensor, spoken: Tensor) -> Tensor:
        """[B, T] or [B, C, T], both alike -> scalar, 1 for 10 dB. T is more than 512 samples. Not
        under autocast."""
        heard, spoken = (x.flatten(0, -2) for x in (heard, spoken))
        gain = LOUDNESS / spoken.square().mean(dim=-1, keepdim=True).sqrt().clamp(min=QUIET)
        ours, theirs = (self._powers(x * gain) for x in (heard, spoken))
        loudest = theirs.amax(dim=(1, 2), keepdim=True)
        weight = (theirs / loudest).pow(0.25) * (theirs > self.FAINT * loudest)
        apart = torch.log10(ours + 1e-6) - torch.log10(theirs + 1e-6)
        error = F.smooth_l1_loss(apart, torch.zeros_like(apart), beta=0.1, reduction="none")
        return (error * weight).sum() / weight.sum().clamp(min=1e-6)

    def _powers(self, x: Tensor) -> Tensor:
        """[B, T] -> [B, blocks, bands]: means over FRAMES frames, half of which the next block has
        too."""
        x = F.pad(x[:, None], (self.WINDOW // 2,) * 2, mode="reflect")[:, 0]
        powers = _magnitude(x, self.window).square() @ self.filters
        size = min(self.FRAMES, powers.shape[1])
        return F.avg_pool1d(powers.transpose(1, 2), size, max(1, size // 2)).transpose(1, 2)


def _wide(x: Tensor) -> Tensor:
    """At least float32: under autocast the discriminator gives bfloat16, whose sums have three
    digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def generator_hinge(logits: Sequence[Tensor]) -> Tensor:
    """Logits of what was heard, a tensor a scale -> mean over scales of max(0, 1 - D)."""
    return torch.stack([F.relu(1 - _wide(fake)).mean() for fake in logits]).mean()


def discriminator_hinge(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Logits of what was spoken and heard -> mean over scales of max(0, 1 - D(real)) + max(0, 1 +
    D(fake))."""
    return generator_hinge(real) + generator_hinge([-logits for logits in fake])


def feature_matching(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Features by scale and layer -> mean |real - fake| over mean |real|, averaged over both.

    No gradient reaches `real`.
    """
    pairs = [pair for layers in zip(real, fake, strict=True) for pair in zip(*layers, strict=True)]
    return torch.stack([relative_l1(_wide(b), _wide(a.detach())) for a, b in pairs]).mean()
