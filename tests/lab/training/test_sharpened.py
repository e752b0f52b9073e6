"""Contrast: what is raised, and what stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from earshot.codec.pcm import Pcm
from earshot.lab.training.sharpened import COARSE, FINE, sharpen


def contrast(x: Tensor, window: int, bins: int) -> float:
    """Standard deviation, in dB, of the power of `bins` bins, where the sound is not faint."""
    power = torch.stft(x, window, window // 4, window=torch.hann_window(window), return_complex=True).abs().square()
    loud = power.sum(1) > 0.01 * power.sum(1).max()
    decibels = 10 * torch.log10(power + 1e-9 * power.max()).transpose(1, 2)[loud]
    return float(decibels.unfold(1, bins, 1).std(-1).mean())


@pytest.mark.parametrize("stage", [FINE, COARSE])
def test_contrast_rises_and_the_level_stays(speech: Pcm, stage: tuple[int, int]) -> None:
    x = torch.from_numpy(speech[:48_000])[None]
    x = x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    sharp = sharpen(x, *stage, 0.5)
    assert sharp.shape == x.shape
    assert float(sharp.square().mean() / x.square().mean()) == pytest.approx(1.0, rel=1e-3)
    assert contrast(sharp, *stage) > 1.1 * contrast(x, *stage)
    np.testing.assert_allclose(sharpen(x, *stage, 0.0), x, atol=1e-4)


def test_silence_stays_silent() -> None:
    assert torch.equal(sharpen(torch.zeros(2, 4096), *FINE, 0.6), torch.zeros(2, 4096))


def test_each_example_is_sharpened_by_itself(speech: Pcm) -> None:
    both = torch.from_numpy(np.stack([speech[:8192], 0.01 * speech[8192:16384]]))
    apart = torch.cat([sharpen(each[None], *FINE, 0.6) for each in both])
    torch.testing.assert_close(sharpen(both, *FINE, 0.6), apart, atol=1e-6, rtol=1e-4)
