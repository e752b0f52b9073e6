"""What weights a run begins with, and the weight norm they are trained under."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from earshot.codec.errors import UsageError
from earshot.codec.model.network import Encodec
from earshot.codec.model.seanet import Conv1d, ConvTranspose1d, ResidualUnit
from earshot.lab.training.cosines import start_on_cosines


def initialise(network: Encodec) -> None:
    """What a run begins with; models with widths of their own begin as a cosine codec."""
    if network.config.widths is None:
        keep_variance(network)
    else:
        start_on_cosines(network)


def keep_variance(network: Encodec) -> None:
    """Random weights that keep the variance. With torch's defaults the latents carry nothing for
    hundreds of steps."""
    for module in network.modules():
        if isinstance(module, Conv1d | ConvTranspose1d):
            per_output = (
                module.weight[0].numel()
                if isinstance(module, Conv1d)
                else (module.weight.shape[0] * module.weight.shape[2] / module.stride[0])
            )
            nn.init.normal_(module.weight, std=math.sqrt(1.4 / per_output))
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, ResidualUnit):
                module.widen.weight *= 0.5
                module.shortcut.weight *= 0.8
        cast(Conv1d, network.decoder.layers[-1]).weight *= 0.1


def copy_weights(network: Encodec, trained: Encodec) -> None:
    """Begins with those of another model of the same shape. Raises UsageError for another shape."""
    shapes = [
        {key: value for key, value in model.config.coding().items() if key != "padding"} for model in (trained, network)
    ]
    other = sorted(key for key in shapes[0].keys() | shapes[1].keys() if shapes[0].get(key) != shapes[1].get(key))
    if other:
        raise UsageError(f"--init is a model of another shape than the recipe's: {', '.join(other)} differ")
    network.load_state_dict(trained.state_dict())


DIRECTION = 3.0
"""Norm of the direction of weights, for models with widths of their own: the longer it is, the less
a step turns it, and what they begin with is worth keeping."""


def add_weight_norm(network: Encodec) -> None:
    """Does nothing to models that are normalised over time instead."""
    if network.config.norm != "weight":
        return
    for module in network.modules():
        if isinstance(module, Conv1d | ConvTranspose1d):
            weight_norm(module)
            if network.config.widths is not None:
                _lengthen(module)


@torch.no_grad()
def _lengthen(module: nn.Module) -> None:
    direction = cast(nn.ModuleDict, module.parametrizations)["weight"].original1
    norms = cast(torch.Tensor, direction).flatten(1).norm(dim=1).clamp(min=1e-6)
    direction *= (DIRECTION / norms).view(-1, 1, 1)


def fold_weight_norm(network: Encodec) -> None:
    with torch.no_grad():
        for module in network.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
