"""Weights on disk: what is loadable, and everything that can be wrong with it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import safetensors.torch
import torch

from codec.network import Encodec


def save_native(network: Encodec, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes a network as one `.safetensors` file that carries its own configuration."""
    tensors = {key: tensor.detach().to(dtype).contiguous() for key, tensor in network.state_dict().items()}
    partial = path.with_suffix(".part")
    safetensors.torch.save_file(tensors, partial, {"earshot": json.dumps(network.config.to_dict())})
    os.replace(partial, path)
