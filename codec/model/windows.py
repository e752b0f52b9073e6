"""Codes whole signals in windows, each scaled to the same volume, as the 48 kHz stereo model does.

Windows overlap a little, and each is coded by itself. Where two meet, one fades into the other:
every sample is weighted by its distance from the ends of its window (arXiv 2210.13438, section
3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from earshot.codec.bitstream import Window
from earshot.codec.config import ModelConfig
from earshot.codec.errors import UsageError
from earshot.codec.model.network import Encodec
from earshot.codec.model.streaming import check_codes
from earshot.codec.pcm import MOST_SCALE, Pcm, sanitize

_SILENCE = 1e-8
"""Added to the volume, so that silence can be divided by it."""


def volume(pcm: Tensor) -> Tensor:
    """Returns [B, 1, 1], what the samples of windows [B, channels, T] are divided by: the RMS of
    their mono mix."""
    return _SILENCE + pcm.mean(dim=1, keepdim=True).pow(2).mean(dim=2, keepdim=True).sqrt()


def as_channels(samples: ArrayLike, channels: int) -> Pcm:
    """Returns samples [channels, n] as float32. Raises UsageError for another shape."""
    pcm = np.asarray(samples, dtype=np.float32)
    if pcm.ndim != 2 or pcm.shape[0] != channels:
        raise UsageError(f"PCM must be [{channels}, samples], not of shape {pcm.shape}")
    return pcm


def encode_window(network: Encodec, pcm: Tensor, n_q: int) -> Window:
    """Codes one window [1, channels, T] of clean samples by itself."""
    scale = volume(pcm) if network.config.normalize else None
    codes = network.encode(pcm if scale is None else pcm / scale, n_q)
    return Window(codes[0].numpy().astype(np.int16), None if scale is None else float(scale))


def decode_window(network: Encodec, codes: NDArray[np.int64], scale: float | None) -> Tensor:
    """Decodes checked codes [n_q, F] to [channels, F * hop] at the volume of the original."""
    pcm = network.decode(torch.from_numpy(codes)[None])[0]
    return pcm if scale is None else pcm * torch.tensor(scale)


def encode_windows(network: Encodec, pcm: ArrayLike, kbps: float) -> Iterator[Window]:
    """Yields the windows of a whole signal [channels, n], one after the other. Impossible samples
    are replaced.

    Raises UsageError, at the first window, for another shape or a rate that the model does not
    have."""
    config, n_q = network.config, network.config.n_q(kbps)
    clean, _ = sanitize(as_channels(pcm, config.channels))
    samples = clean.shape[1]
    for start in range(0, samples, config.window_stride or samples or 1):
        yield encode_window(
            network, torch.tensor(clean[None, :, start : start + (config.window_length or samples)]), n_q
        )


def decode_windows(network: Encodec, windows: Sequence[Window]) -> Pcm:
    """Decodes windows to a whole signal [channels, n]. It ends with the last frame, which may be up
    to a frame after the end of what was encoded. (The official package fails if the last window is
    so short that the one before it ends later; here both are heard.)

    Raises UsageError for windows that do not belong to this model."""
    config = network.config
    if not windows:
        return np.zeros((config.channels, 0), np.float32)
    codes: list[NDArray[np.int64]] = []
    for window in windows:
        codes.append(check_window(window, codes[-1].shape[1] if codes else None, config))
    ends = [(config.window_stride or 0) * i + frames.shape[1] * config.hop_length for i, frames in enumerate(codes)]
    mixed, weights = torch.zeros(config.channels, max(ends)), torch.zeros(max(ends))
    fade = triangle(codes[0].shape[1] * config.hop_length)
    for window, frames, end in zip(windows, codes, ends, strict=True):
        pcm = decode_window(network, frames, window.scale)
        length = pcm.shape[1]
        mixed[:, end - length : end] += fade[:length] * pcm
        weights[end - length : end] += fade[:length]
    return (mixed / weights).numpy()


def triangle(length: int) -> Tensor:
    """Returns weights that rise from the start to the middle of a window and fall to its end. None
    of them is 0."""
    time = torch.linspace(0, 1, length + 2)[1:-1]
    return 0.5 - (time - 0.5).abs()


def check_window(window: Window, before: int | None, config: ModelConfig) -> NDArray[np.int64]:
    """Returns the codes of a window that fits the model and may follow a window of `before` frames
    (None if it is the first).

    A window is no longer than the one before it, and that one reaches to where it starts: only the
    last two windows of a signal are shorter than the others. Raises UsageError for any other
    window."""
    codes = check_codes(window.codes, config)
    frames = codes.shape[1]
    length, stride = config.window_length, config.window_stride
    if not frames or (length is not None and frames > -(-length // config.hop_length)):
        raise UsageError(f"a window of {frames} frames does not fit {config.name}")
    if before is not None and (stride is None or before * config.hop_length < stride or frames > before):
        raise UsageError(f"a window of {frames} frames after one of {before} frames does not fit {config.name}")
    if (window.scale is not None) != config.normalize:
        raise UsageError(f"windows of {config.name} have {'a' if config.normalize else 'no'} scale")
    if window.scale is not None and not 0 <= window.scale <= MOST_SCALE:
        raise UsageError(f"the scale of a window must be in 0..{MOST_SCALE:g}, not {window.scale}")
    return codes
