"""What a decoder learns from itself: its own sound, with the contrast that losses took from it.

Where a magnitude cannot be told from the codes, the cheapest one is a mean of what it may be. So
peaks of the spectrum come out flatter, and valleys fuller, than in speech; it sounds rough. A
postfilter undoes that (adaptive postfiltering: Chen and Gersho, IEEE Trans. Speech and Audio
Processing 3(1), 1995), but takes time to look ahead. What it makes is a function of the codes, so
that the decoder itself can learn it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from earshot.codec.config import Padding
from earshot.codec.model.seanet import SEANet
from earshot.lab.training.settings import Sharpening

FINE, COARSE = (1024, 9), (512, 61)
"""Samples of a window, and bins on which a bin's power is compared: harmonics among 0.2 kHz,
formants and noise among 2.9 kHz."""
LOUDEST = 1.5
"""What the amplitude of a bin is multiplied by at most."""


def sharpen(x: Tensor, window: int, bins: int, exponent: float) -> Tensor:
    """[B, T] -> [B, T], as loud as before, each bin's amplitude times its amplitude over the RMS of
    `bins` bins around it, to the power `exponent`. T is more than half the window."""
    hann = torch.hann_window(window, device=x.device)
    spectrum = torch.stft(x, window, window // 4, window=hann, return_complex=True)
    power = (spectrum.real.square() + spectrum.imag.square() + 1e-7).transpose(1, 2)
    around = F.avg_pool1d(F.pad(power, (bins // 2,) * 2, mode="reflect"), bins, 1)
    gain = (power / around).pow(exponent / 2).clamp(max=LOUDEST).transpose(1, 2)
    sharp = torch.istft(spectrum * gain, window, window // 4, window=hann, length=x.shape[-1])
    level = x.square().sum(-1, keepdim=True) / (sharp.square().sum(-1, keepdim=True) + 1e-9)
    return sharp * level.sqrt()


class Teacher(nn.Module):
    """Latents to what the decoder should make of them: what another one does, sharpened."""

    def __init__(self, decoder: SEANet, padding: Padding, sharpening: Sharpening) -> None:
        super().__init__()
        self.decoder, self.padding = decoder, padding
        self.stages = ((FINE, sharpening.fine), (COARSE, sharpening.coarse))

    @torch.no_grad()
    def forward(self, latents: Tensor) -> Tensor:
        """[B, D, frames] -> [B, C, T]."""
        sound, _ = self.decoder.step(latents, None, self.padding, last=True)
        flat = sound.float().flatten(0, 1)
        for (window, bins), exponent in self.stages:
            if exponent:
                flat = sharpen(flat, window, bins, exponent)
        return flat.view_as(sound)
