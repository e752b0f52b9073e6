"""The decoder's last step, where a model has one: what it says with more contrast.

Where a magnitude cannot be told from the codes, a decoder learns a mean of what it may be: peaks of
the spectrum come out flatter, valleys fuller, than in speech. So each frame goes through a filter
that its own spectrum makes, as the postfilters of speech coders do (Chen and Gersho, IEEE Trans.
Speech and Audio Processing 3(1), 1995). It has minimum phase and looks only back: no delay."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn

WINDOW, TAPS = 1024, 512
"""Samples that a frame's spectrum is taken from, up to its end, and the length of its filter."""
FALL = 256
"""The window's last samples, over which it falls; over all before it rises."""
FINE, COARSE = 4, 60
"""Bins on each side that a bin's power is compared with: harmonics among 0.2 kHz (24 kHz sampling),
and those neighbours with 2.8 kHz."""
LOUDEST, FAINTEST = 1.5, 1e-3
"""Of the amplitude's factor."""
FLOOR = 1e-7
"""Power of a bin that is as good as none."""


@cache
def window(device: torch.device) -> Tensor:
    """Returns what a frame and the samples before it are multiplied by, [WINDOW]."""
    with torch.inference_mode(False):  # it is kept, and may be used in training later
        halves = [torch.arange(n, dtype=torch.float64).add(0.5).mul(math.pi / 2 / n) for n in (WINDOW - FALL, FALL)]
        return torch.cat([halves[0].sin().square(), halves[1].cos().square()]).float().to(device)


class Postfilter(nn.Module):
    """Sharpens sound [B, 1, T], frame by frame. `fine` and `coarse` are exponents: a bin's
    amplitude is multiplied by its root of power over that of its nearest neighbours, and by theirs
    over that of many, to these powers. The state of a stream is [WINDOW - hop + TAPS]: samples,
    and what the last filter differs from none by."""

    def __init__(self, hop: int, fine: float, coarse: float) -> None:
        super().__init__()
        self.hop, self.fine, self.coarse = hop, fine, coarse
        self.kept = WINDOW - hop

    def init_cache(self, batch: int) -> Tensor:
        return torch.zeros(batch, self.kept + TAPS)

    def step(self, x: Tensor, cache: Tensor | None, padding: str, last: bool) -> tuple[Tensor, Tensor]:
        """Maps [B, 1, T] to [B, 1, T], of whole frames, in float32. Streams start on zeros with any
        padding."""
        x = x.float()
        if cache is None:
            cache = self.init_cache(x.shape[0]).to(x)
        joined = torch.cat([cache[:, : self.kept], x[:, 0]], dim=1)
        change = self.change(joined.unfold(1, WINDOW, self.hop))
        before = torch.cat([cache[:, None, self.kept :], change[:, :-1]], dim=1)
        inputs = joined[:, self.kept - TAPS + 1 :].unfold(1, TAPS - 1 + self.hop, self.hop)
        spectrum = torch.fft.rfft(inputs, WINDOW)
        was, now = (
            torch.fft.irfft(spectrum * torch.fft.rfft(taps, WINDOW))[..., TAPS - 1 : TAPS - 1 + self.hop]
            for taps in (before, change)
        )
        share = torch.arange(1, self.hop + 1, device=x.device) / self.hop
        y = inputs[..., TAPS - 1 :] + was + (now - was) * share
        return y.flatten(1)[:, None], torch.cat([joined[:, joined.shape[1] - self.kept :], change[:, -1]], dim=1)

    def change(self, segments: Tensor) -> Tensor:
        """Returns what the filters for frames that end these segments [..., WINDOW] differ from no
        filter by: [..., TAPS]."""
        power = torch.fft.rfft(segments * window(segments.device)).abs().square() + FLOOR
        sums = torch.nn.functional.pad(power.double().cumsum(-1), (1, 0))
        near, far = (_mean_around(sums, bins) for bins in (FINE, COARSE))
        gain = 0.5 * (self.fine * (power / near).log() + self.coarse * (near / far).log())
        gain = gain.clamp(math.log(FAINTEST), math.log(LOUDEST))
        louder = (power * (2 * gain).exp()).sum(-1, keepdim=True) / power.sum(-1, keepdim=True)
        cepstrum = torch.fft.irfft(gain - 0.5 * louder.log())
        # Twice its causal half: the logarithm of the spectrum of minimum phase of these magnitudes.
        cepstrum[..., 1 : WINDOW // 2] *= 2
        cepstrum[..., WINDOW // 2 + 1 :] = 0
        taps: Tensor = torch.fft.irfft(torch.fft.rfft(cepstrum).exp())[..., :TAPS].clone()
        taps[..., 0] -= 1
        return taps


def _mean_around(sums: Tensor, bins: int) -> Tensor:
    """Running sums of powers, [..., n + 1] -> means over `bins` on each side, as far as there are
    any."""
    count = sums.shape[-1] - 1
    middle = torch.arange(count, device=sums.device)
    first, end = (middle - bins).clamp(min=0), (middle + bins + 1).clamp(max=count)
    return ((sums[..., end] - sums[..., first]) / (end - first)).float()
