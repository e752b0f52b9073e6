"""Reconstruction losses (arXiv 2210.13438, section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WINDOWS = (2048, 1024, 512, 256, 128, 64, 32)
"""The paper's 2^5..2^11."""


def mel_filters(n_fft: int, bands: int, sample_rate: int) -> Tensor:
    """[bands, n_fft / 2 + 1] triangles, evenly spaced on O'Shaughnessy's mel scale (2595 log10(1 + f / 700))."""
    frequencies = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    top = 2595 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700, dtype=torch.float64))
    corners = 700 * (10 ** (torch.linspace(0, 1, bands + 2, dtype=torch.float64) * top / 2595) - 1)
    rising = (frequencies - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - frequencies) / (corners[2:] - corners[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0).float()


def relative_l1(heard: Tensor, spoken: Tensor) -> Tensor:
    """Mean absolute error over mean absolute value: quiet batches count as much as loud ones."""
    return (heard - spoken).abs().mean() / spoken.abs().mean()


class MelLoss(nn.Module):
    """L1 of mel magnitudes plus L2 of log mel magnitudes, averaged over windows; hop a quarter of the window.

    Short windows get at most a band for every two bins; the lowest bands may still fall between bins and weigh nothing.
    """

    def __init__(self, sample_rate: int, bands: int = 64, windows: tuple[int, ...] = WINDOWS) -> None:
        super().__init__()
        self.windows = windows
        for n_fft in windows:
            self.register_buffer(f"window_{n_fft}", torch.hann_window(n_fft), persistent=False)
            filters = mel_filters(n_fft, min(bands, n_fft // 4), sample_rate)
            self.register_buffer(f"filters_{n_fft}", filters, persistent=False)

    def _mel(self, x: Tensor, n_fft: int) -> Tensor:
        """[B, T] -> [B, bands, frames]."""
        window, filters = getattr(self, f"window_{n_fft}"), getattr(self, f"filters_{n_fft}")
        spectrum = torch.stft(x, n_fft, n_fft // 4, window=window, normalized=True, return_complex=True)
        return torch.matmul(filters, torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-9))

    def forward(self, heard: Tensor, spoken: Tensor) -> Tensor:
        """[B, T], [B, T] -> scalar."""
        loss = heard.new_zeros(())
        for n_fft in self.windows:
            a, b = self._mel(heard, n_fft), self._mel(spoken, n_fft)
            log_error = torch.log(a + 1e-4) - torch.log(b + 1e-4)
            loss = loss + (a - b).abs().mean() + log_error.pow(2).mean(dim=1).sqrt().mean()
        return loss / len(self.windows)
