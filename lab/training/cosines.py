"""Starts a network with widths of its own as a block cosine codec: before its first step it passes
on what is below some 5 kHz.

From random weights such a network learns slowly (docs/training.md). Here every strided convolution
begins as the cosine transform
(DCT-II, Ahmed et al. 1974) of a block of each of its channels, and the decoder as the inverse.
Signals are kept small, so that the ELUs between are nearly straight lines. All other weights are
random and small: they are what learns.

Where the last residual units are at the frame rate (the encoder's last ratio is 1), they begin as a
compressor of each coefficient, and the decoder's as its inverse: loud and quiet speech then meet
the same codebooks (as with the mu-law of ITU-T G.711)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from earshot.codec.model.network import Encodec
from earshot.codec.model.seanet import (
    CausalConv1d,
    CausalConvTranspose1d,
    ResidualLSTM,
    ResidualUnit,
    SEANet,
)

SMALL = 0.1
"""Gain of the first layer; the last one takes it back."""
NOISE, WIDEN, SHORTCUT, LSTM = 0.003, 0.01, 0.001, 0.1
"""Sizes of the random weights, relative to those that keep the variance."""
KNEE, RATIO, RAISED = 0.12, 0.1, 2.5
"""Latents above KNEE rise RATIO times as fast; all are then scaled by RAISED."""
LATENT, TURN_HZ, SLOPE = 0.75, 400.0, 0.9
"""Latents are scaled by LATENT (1 + (f / TURN_HZ)^1.5)^(SLOPE / 1.5): codebooks are close in the
squared sense, and a quiet band above a loud one would get no bit."""


def cosines(size: int) -> Tensor:
    """Returns the orthonormal DCT-II [size, size], a row for each frequency."""
    k, t = torch.arange(size)[:, None], torch.arange(size)[None]
    rows = torch.cos(math.pi / size * (t + 0.5) * k) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows


@torch.no_grad()
def start_on_cosines(network: Encodec) -> None:
    """Sets all weights of the networks, not the codebooks."""
    config = network.config
    for net in _networks(network):
        _start_small(net)
    ratios, counts = config.ratios[::-1], config.channel_counts
    used = [1]
    for ratio, width in zip(ratios, counts[1:], strict=True):
        used.append(min(used[-1] * ratio, width))
    kept = min(used[-1], config.dimension)
    hertz = torch.arange(kept) / math.prod(config.ratios) * config.sample_rate / 2
    gains = LATENT / SMALL * (1 + (hertz / TURN_HZ) ** 1.5) ** (SLOPE / 1.5)

    first, *down, last = _convolutions(network.encoder)
    _pass(first, 1, SMALL)
    for conv, ratio, many in zip(down, ratios, used, strict=False):
        free = conv.weight[many * ratio :]
        nn.init.normal_(free, std=0.5 / math.sqrt(conv.weight[0].numel()))
        for channel, row, wave in _waves(many, ratio, conv.weight.shape[0]):
            conv.weight[row, channel, ratio:] += wave
    last.weight[:kept] *= gains.view(-1, 1, 1)
    last.weight[range(kept), range(kept), -1] += gains

    first, *up, last = _convolutions(network.decoder)
    first.weight[range(kept), range(kept), -1] += 1 / gains
    for conv, ratio, many in zip(up, ratios[::-1], used[-2::-1], strict=False):
        for channel, row, wave in _waves(many, ratio, conv.weight.shape[0]):
            conv.weight[row, channel, :ratio] += wave
    last.weight /= SMALL
    last.weight[0, 0, -1] += 1 / SMALL
    if config.ratios[0] == 1:
        _compress(network, gains)


def _compress(network: Encodec, gains: Tensor) -> None:
    """With y = a x, ELU(y) - ELU(-y) - y = sign(y) (1 - exp(-|y|)): two hidden channels make a
    curve that flattens. The decoder's two are zero up to the knee and steep above."""
    count = network.config.n_residual_layers
    units = [[unit for unit in net.layers if isinstance(unit, ResidualUnit)] for net in _networks(network)]
    at = 0
    for narrowing, widening in zip(units[0][-count:], units[1][:count], strict=True):
        for half in range(min(narrowing.narrow.weight.shape[0] // 2, len(gains) - at)):
            a = float(gains[at]) / KNEE
            for hidden, sign in ((2 * half, 1.0), (2 * half + 1, -1.0)):
                _curve(narrowing, at, hidden, sign * a, 0.0, sign / a)
                steep, bend = 5 * a, 1 / (a * (1 - RATIO))
                _curve(widening, at, hidden, sign * steep, -bend * steep, sign * (1 / RATIO - 1) / steep)
            narrowing.shortcut.weight[at, at, 0] = RATIO - 1
            widening.shortcut.weight[at, at, 0] = 1
            at += 1
    _convolutions(network.encoder)[-1].weight *= RAISED
    _convolutions(network.decoder)[0].weight /= RAISED


def _curve(unit: ResidualUnit, channel: int, hidden: int, slope: float, offset: float, weight: float) -> None:
    """Adds weight ELU(slope x + offset) to a channel, by way of a hidden channel."""
    narrow, widen = cast(nn.Conv1d, unit.narrow), cast(nn.Conv1d, unit.widen)
    narrow.weight[hidden] = 0
    narrow.weight[hidden, channel, -1] = slope
    cast(Tensor, narrow.bias)[hidden] = offset
    widen.weight[:, hidden] *= 0.02
    widen.weight[channel, hidden, 0] = weight


def _networks(network: Encodec) -> tuple[SEANet, SEANet]:
    return network.encoder, network.decoder


def _waves(many: int, ratio: int, most: int) -> list[tuple[int, int, Tensor]]:
    """Returns (channel, row, wave): row by row in the order of their frequencies."""
    rows = cosines(ratio)
    return [(i // ratio, i, rows[i % ratio]) for i in range(min(many * ratio, most))]


def _pass(conv: nn.Conv1d, channel: int, gain: float) -> None:
    """Makes the first of the outputs the input itself, times `gain`, and the others as loud."""
    nn.init.normal_(conv.weight, std=gain / math.sqrt(conv.weight[0].numel()))
    conv.weight[0] = 0
    conv.weight[0, 0, -1] = gain


def _convolutions(net: SEANet) -> list[nn.Conv1d]:
    found = [layer for layer in net.layers if isinstance(layer, CausalConv1d | CausalConvTranspose1d)]
    return cast(list[nn.Conv1d], found)


def _start_small(net: SEANet) -> None:
    for layer in net.layers:
        if isinstance(layer, ResidualUnit):
            narrow, widen, shortcut = (cast(nn.Conv1d, part) for part in (layer.narrow, layer.widen, layer.shortcut))
            nn.init.normal_(narrow.weight, std=1 / math.sqrt(narrow.weight[0].numel()))
            nn.init.normal_(widen.weight, std=WIDEN / math.sqrt(widen.weight[0].numel()))
            nn.init.normal_(shortcut.weight, std=SHORTCUT / math.sqrt(shortcut.weight.shape[0]))
            shortcut.weight[:, :, 0] += torch.eye(shortcut.weight.shape[0])
            biases = [narrow.bias, widen.bias, shortcut.bias]
        elif isinstance(layer, ResidualLSTM):
            for name, parameter in layer.lstm.named_parameters():
                parameter.mul_(0 if "bias" in name else LSTM)
            biases = []
        elif isinstance(layer, CausalConv1d | CausalConvTranspose1d):
            fan_in = layer.weight[0].numel()
            if isinstance(layer, CausalConvTranspose1d):
                fan_in = layer.weight.shape[0] * layer.weight.shape[2] // layer.stride[0]
            nn.init.normal_(layer.weight, std=NOISE / math.sqrt(fan_in))
            biases = [layer.bias]
        else:
            biases = []
        for bias in biases:
            nn.init.zeros_(cast(Tensor, bias))
