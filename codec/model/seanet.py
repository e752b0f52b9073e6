"""SEANet, EnCodec's convolutional encoder and decoder, written once for offline and streaming use.

Every layer has one method, `step(x, cache, padding, last) -> (y, cache)`. A whole signal in one
step with `cache=None` and `last=True` is the offline network of the paper (arXiv 2210.13438,
section 3.1). The same signal in many steps gives the same result, because a layer's cache is
exactly the input that it would have padded with. Tensors are float32 [batch, channels, time].

Models that are not causal have no such caches: their layers take one whole window in a single
step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from earshot.codec.config import ModelConfig, Norm, Padding
from earshot.codec.errors import UsageError
from earshot.codec.model.postfilter import Postfilter

Cache = Tensor | None
"""State of a layer between two steps, batch first; None before the first step."""


def pad(x: Tensor, left: int, right: int, padding: Padding) -> Tensor:
    """Pads the time dimension. A signal that is not longer than the pad is extended by zeros before
    it is reflected, and these are cut off again, as the official code does."""
    if padding == "zeros":
        return F.pad(x, (left, right))
    missing = max(left, right) - x.shape[-1] + 1
    if missing <= 0:
        return F.pad(x, (left, right), mode="reflect")
    padded = F.pad(F.pad(x, (0, missing)), (left, right), mode="reflect")
    return padded[..., : padded.shape[-1] - missing]


class CausalConv1d(nn.Conv1d):
    """Convolution that looks back by `context` samples and never ahead."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(c_in, c_out, kernel, stride=stride, dilation=dilation)
        self.context = (kernel - 1) * dilation + 1 - stride

    def init_cache(self, batch: int) -> Tensor:
        return self.weight.new_zeros(batch, self.in_channels, self.context)

    def step(self, x: Tensor, cache: Cache, padding: Padding, last: bool) -> tuple[Tensor, Tensor]:
        """Maps [B, C_in, T] to [B, C_out, T / stride]. T is a multiple of the stride, except in the
        last step, which completes its final window by padding."""
        missing = -x.shape[-1] % self.stride[0] if last else 0
        if cache is None:
            window = pad(x, self.context, missing, padding)
        else:
            window = torch.cat([cache, x], dim=-1)
            if missing:
                window = pad(window, 0, missing, padding)
        y = F.conv1d(window, self.weight, self.bias, self.stride, 0, self.dilation)
        return y, window[..., window.shape[-1] - self.context :]


class CausalConvTranspose1d(nn.ConvTranspose1d):
    """Upsampling convolution. The cache holds what a step adds to samples of the next step, without
    the bias."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int) -> None:
        super().__init__(c_in, c_out, kernel, stride=stride)
        self.overlap = kernel - stride

    def init_cache(self, batch: int) -> Tensor:
        return self.weight.new_zeros(batch, self.out_channels, self.overlap)

    def step(self, x: Tensor, cache: Cache, padding: Padding, last: bool) -> tuple[Tensor, Tensor]:
        """Maps [B, C_in, T] to [B, C_out, T * stride]."""
        y = F.conv_transpose1d(x, self.weight, None, self.stride)
        if cache is not None:
            y = torch.cat([y[..., : self.overlap] + cache, y[..., self.overlap :]], dim=-1)
        done = x.shape[-1] * self.stride[0]
        return y[..., :done] + cast(Tensor, self.bias)[:, None], y[..., done:]


def _norm(norm: Norm, channels: int) -> nn.Module:
    """Returns the layer that follows a convolution. Weight normalisation is folded into the weights
    and leaves nothing to do."""
    return nn.GroupNorm(1, channels) if norm == "time_group" else nn.Identity()


def _no_cache(x: Tensor, cache: Cache) -> Tensor:
    if cache is not None:
        raise UsageError("a model that is not causal works on whole windows: it cannot go on from an earlier step")
    return x.new_zeros(x.shape[0], 0)


class WindowConv1d(nn.Conv1d):
    """Convolution over a whole window, which looks both ways, and its norm. If the padding cannot
    be halved, the larger part is on the left."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, dilation: int = 1, norm: Norm = "weight"
    ) -> None:
        super().__init__(c_in, c_out, kernel, stride=stride, dilation=dilation)
        around = (kernel - 1) * dilation + 1 - stride
        self.left, self.right = around - around // 2, around // 2
        self.norm = _norm(norm, c_out)

    def init_cache(self, batch: int) -> Tensor:
        return _no_cache(self.weight, self.weight)

    def step(self, x: Tensor, cache: Cache, padding: Padding, last: bool) -> tuple[Tensor, Tensor]:
        """Maps [B, C_in, T] to [B, C_out, ceil(T / stride)]. Raises UsageError for a second
        step."""
        kept, missing = _no_cache(x, cache), -x.shape[-1] % self.stride[0]
        window = pad(x, self.left, self.right + missing, padding)
        y = F.conv1d(window, self.weight, self.bias, self.stride, 0, self.dilation)
        return cast(Tensor, self.norm(y)), kept


class WindowConvTranspose1d(nn.ConvTranspose1d):
    """Upsampling convolution over a whole window, and its norm; after both, the ends are
    trimmed."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, norm: Norm = "weight") -> None:
        super().__init__(c_in, c_out, kernel, stride=stride)
        overlap = kernel - stride
        self.left = overlap - overlap // 2
        self.norm = _norm(norm, c_out)

    def init_cache(self, batch: int) -> Tensor:
        return _no_cache(self.weight, self.weight)

    def step(self, x: Tensor, cache: Cache, padding: Padding, last: bool) -> tuple[Tensor, Tensor]:
        """Maps [B, C_in, T] to [B, C_out, T * stride]. Raises UsageError for a second step."""
        kept = _no_cache(x, cache)
        y = cast(Tensor, self.norm(F.conv_transpose1d(x, self.weight, self.bias, self.stride)))
        return y[..., self.left : self.left + x.shape[-1] * self.stride[0]], kept


Conv1d = CausalConv1d | WindowConv1d
ConvTranspose1d = CausalConvTranspose1d | WindowConvTranspose1d


class ResidualLSTM(nn.Module):
    """Stacked LSTM with a skip connection over it."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers)

    def init_cache(self, batch: int) -> Tensor:
        weight = cast(Tensor, self.lstm.weight_hh_l0)
        return weight.new_zeros(batch, 2, self.lstm.num_layers, self.lstm.hidden_size)

    def step(self, x: Tensor, cache: Cache, padding: Padding, last: bool) -> tuple[Tensor, Tensor]:
        """Maps [B, C, T] to [B, C, T]; the cache is (h, c) of all layers, [B, 2, layers, C]."""
        if cache is None:
            cache = self.init_cache(x.shape[0])
        h, c = cache.permute(1, 2, 0, 3).contiguous()
        series = x.permute(2, 0, 1)
        y, (h, c) = self.lstm(series, (h, c))
        return (y + series).permute(1, 2, 0), torch.stack([h, c]).permute(2, 0, 1, 3)


class ResidualUnit(nn.Module):
    """ELU, dilated convolution to fewer channels, ELU, 1x1 convolution back; a 1x1 convolution as
    shortcut."""

    def __init__(
        self, channels: int, kernel: int, dilation: int, compress: int, conv: Callable[..., Conv1d] = CausalConv1d
    ) -> None:
        super().__init__()
        hidden = channels // compress
        self.narrow = conv(channels, hidden, kernel, dilation=dilation)
        self.widen = conv(hidden, channels, 1)
        self.shortcut = conv(channels, channels, 1)

    def init_cache(self, batch: int) -> Tensor:
        return self.narrow.init_cache(batch)

    def step(self, x: Tensor, cache: Cache, padding: Padding, last: bool) -> tuple[Tensor, Tensor]:
        """Maps [B, C, T] to [B, C, T]."""
        y, cache = self.narrow.step(F.elu(x), cache, padding, last)
        y, _ = self.widen.step(F.elu(y), None, padding, last)
        skip, _ = self.shortcut.step(x, None, padding, last)
        return skip + y, cache


class Activation(nn.Module):
    """ELU. It has no state; its empty cache makes the list of caches as long as the list of
    layers."""

    def init_cache(self, batch: int) -> Tensor:
        return torch.zeros(batch, 0)

    def step(self, x: Tensor, cache: Cache, padding: Padding, last: bool) -> tuple[Tensor, Tensor]:
        return F.elu(x), self.init_cache(x.shape[0]) if cache is None else cache


Layer = Conv1d | ConvTranspose1d | ResidualLSTM | ResidualUnit | Activation | Postfilter


class SEANet(nn.Module):
    """A sequence of layers. Their order and indices are those of the official state dicts."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def init_caches(self, batch: int) -> list[Tensor]:
        """Returns the caches of `batch` streams that start on zeros."""
        return [cast(Layer, layer).init_cache(batch) for layer in self.layers]

    def step(self, x: Tensor, caches: list[Tensor] | None, padding: Padding, last: bool) -> tuple[Tensor, list[Tensor]]:
        """Runs all layers on the next part of `x.shape[0]` streams. `caches=None` starts the
        streams with `padding`."""
        moved = []
        for index, layer in enumerate(self.layers):
            x, cache = cast(Layer, layer).step(x, caches[index] if caches else None, padding, last)
            moved.append(cache)
        return x, moved


def _convolutions(config: ModelConfig) -> tuple[Callable[..., Conv1d], Callable[..., ConvTranspose1d]]:
    if config.causal:
        return CausalConv1d, CausalConvTranspose1d
    return partial(WindowConv1d, norm=config.norm), partial(WindowConvTranspose1d, norm=config.norm)


def _residual_units(config: ModelConfig, channels: int) -> list[Layer]:
    conv, _ = _convolutions(config)
    return [
        ResidualUnit(channels, config.residual_kernel_size, config.dilation_base**j, config.compress, conv)
        for j in range(config.n_residual_layers)
    ]


def build_encoder(config: ModelConfig) -> SEANet:
    """Builds the network from PCM [B, channels, T] to latents [B, dimension, T / hop]."""
    conv, _ = _convolutions(config)
    width, *rest = config.channel_counts
    layers: list[Layer] = [conv(config.channels, width, config.kernel_size)]
    for ratio, wider in zip(reversed(config.ratios), rest, strict=True):
        layers += _residual_units(config, width)
        layers += [Activation(), conv(width, wider, ratio * 2, stride=ratio)]
        width = wider
    layers += [ResidualLSTM(width, config.lstm_layers), Activation()]
    layers += [conv(width, config.dimension, config.last_kernel_size)]
    return SEANet(layers)


def build_decoder(config: ModelConfig) -> SEANet:
    """Builds the network from latents [B, dimension, F] to PCM [B, channels, F * hop]."""
    conv, upsample = _convolutions(config)
    width, *rest = reversed(config.channel_counts)
    layers: list[Layer] = [conv(config.dimension, width, config.kernel_size)]
    layers += [ResidualLSTM(width, config.lstm_layers)]
    for ratio, narrower in zip(config.ratios, rest, strict=True):
        layers += [Activation(), upsample(width, narrower, ratio * 2, ratio)]
        width = narrower
        layers += _residual_units(config, width)
    layers += [Activation(), conv(width, config.channels, config.last_kernel_size)]
    if config.postfilter is not None:
        layers.append(Postfilter(config.hop_length, *config.postfilter))
    return SEANet(layers)
