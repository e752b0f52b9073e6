"""Whole signals in windows, each brought to one volume, as the 48 kHz stereo model codes them.

Windows overlap a little, and each is coded by itself. Where two meet, one fades into the other: every sample is
weighted by how far it is from the ends of its window (arXiv 2210.13438, section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from codec.config import ModelConfig
from codec.errors import UsageError
from codec.network import Encodec
from codec.pcm import LARGEST_SAMPLE, Pcm, sanitize
from codec.streaming import Codes, check_codes

_SILENCE = 1e-8
"""Added to the volume, so that silence can be divided by it."""
MOST_SCALE = 2 * LARGEST_SAMPLE


@dataclass(frozen=True)
class Window:
    """Codes [n_q, F] of one window, and what its samples are multiplied by; None if the model leaves volume alone."""

    codes: Codes
    scale: float | None = None


def volume(pcm: Tensor) -> Tensor:
    """[B, channels, T] -> [B, 1, 1]: what the samples of a window are divided by, the RMS of their mono mix."""
    return _SILENCE + pcm.mean(dim=1, keepdim=True).pow(2).mean(dim=2, keepdim=True).sqrt()


def as_channels(samples: ArrayLike, channels: int) -> Pcm:
    """[channels, n] as float32. Raises UsageError for another shape."""
    pcm = np.asarray(samples, dtype=np.float32)
    if pcm.ndim != 2 or pcm.shape[0] != channels:
        raise UsageError(f"PCM must be [{channels}, samples], not of shape {pcm.shape}")
    return pcm


def encode_windows(network: Encodec, pcm: ArrayLike, kbps: float) -> Iterator[Window]:
    """A whole signal [channels, n] -> its windows, one after the other. Impossible samples are replaced.

    Raises UsageError, at the first window, for another shape or a rate that the model does not have."""
    config, n_q = network.config, network.config.n_q(kbps)
    clean, _ = sanitize(as_channels(pcm, config.channels))
    samples = clean.shape[1]
    for start in range(0, samples, config.window_stride or samples or 1):
        part = torch.tensor(clean[None, :, start : start + (config.window_length or samples)])
        scale = volume(part) if config.normalize else None
        codes = network.encode(part if scale is None else part / scale, n_q)
        yield Window(codes[0].numpy().astype(np.int16), None if scale is None else float(scale))


def decode_windows(network: Encodec, windows: Sequence[Window]) -> Pcm:
    """Windows -> a whole signal [channels, n]. It ends with the last frame, which may be up to a frame after the end of
    what was encoded. (The official package fails where the last window is so short that the one before it goes on
    longer; here both are heard.)

    Raises UsageError for windows that do not belong to this model."""
    config = network.config
    if not windows:
        return np.zeros((config.channels, 0), np.float32)
    codes = [_check(window, index == len(windows) - 1, config) for index, window in enumerate(windows)]
    ends = [(config.window_stride or 0) * i + frames.shape[1] * config.hop_length for i, frames in enumerate(codes)]
    mixed, weights = torch.zeros(config.channels, max(ends)), torch.zeros(max(ends))
    fade = _triangle(codes[0].shape[1] * config.hop_length)
    for window, frames, end in zip(windows, codes, ends, strict=True):
        pcm = network.decode(torch.from_numpy(frames)[None])[0]
        length = pcm.shape[1]
        louder = pcm if window.scale is None else pcm * torch.tensor(window.scale)
        mixed[:, end - length : end] += fade[:length] * louder
        weights[end - length : end] += fade[:length]
    return (mixed / weights).numpy()


def _triangle(length: int) -> Tensor:
    """Weights that rise from the start to the middle of a window and fall to its end, none of them 0."""
    time = torch.linspace(0, 1, length + 2)[1:-1]
    return 0.5 - (time - 0.5).abs()


def _check(window: Window, last: bool, config: ModelConfig) -> NDArray[np.int64]:
    """The codes of a window that fits the model."""
    codes = check_codes(window.codes, config)
    frames = codes.shape[1]
    if config.window_length is None or config.window_stride is None:
        fits = last and frames
    else:  # no longer than a window, and long enough that the next one overlaps it
        full = -(-config.window_length // config.hop_length)
        fits = (0 if last else config.window_stride) <= frames * config.hop_length and 0 < frames <= full
    if not fits:
        raise UsageError(f"a window of {frames} frames does not fit {config.name}")
    if (window.scale is not None) != config.normalize:
        raise UsageError(f"windows of {config.name} have {'a' if config.normalize else 'no'} scale")
    if window.scale is not None and not 0 <= window.scale <= MOST_SCALE:
        raise UsageError(f"the scale of a window must be in 0..{MOST_SCALE:g}, not {window.scale}")
    return codes
