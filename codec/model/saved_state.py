"""The bytes that `save` of a session or of an engine returns, and the checks of `restore`.

Every saved state begins with its owner (which kind of session or engine it is for) and the shape of
its model. A session keeps its state in named tensors; an engine keeps it in bytes of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from earshot.codec.config import ModelConfig
from earshot.codec.errors import UsageError


def pack_tensors(owner: tuple[str, ...], config: ModelConfig, ended: bool, state: Mapping[str, Tensor]) -> bytes:
    """Returns the state of a session as a safetensors file. `ended` tells whether its stream has
    ended."""
    tensors = {"identity": _identity_tensor(owner, config), "ended": torch.tensor([ended]), **state}
    return safetensors.torch.save({key: tensor.contiguous() for key, tensor in tensors.items()})


def unpack_tensors(owner: tuple[str, ...], config: ModelConfig, data: bytes) -> tuple[bool, dict[str, Tensor]]:
    """Returns `ended` and `state` as they were given to `pack_tensors`. Raises UsageError for
    bytes that it did not make, and for the state of another owner or model."""
    try:
        tensors = safetensors.torch.load(data)
        identity, ended = tensors.pop("identity"), bool(tensors.pop("ended"))
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise UsageError(f"this is no saved session state: {error}") from error
    if not torch.equal(identity, _identity_tensor(owner, config)):
        raise UsageError("this state was saved by another kind of session or by one of another model")
    return ended, tensors


def seal(engine: str, kind: str, config: ModelConfig, state: bytes) -> bytes:
    """Returns the state of an engine's slot behind a line that says what it belongs to."""
    return _identity_line(engine, kind, config) + state


def unseal(engine: str, kind: str, config: ModelConfig, data: bytes) -> bytes:
    """Returns the state that was given to `seal`. Raises UsageError for a state of another engine,
    kind of slot or model."""
    identity = _identity_line(engine, kind, config)
    if not isinstance(data, bytes) or not data.startswith(identity):
        raise UsageError(f"this is no saved state of a {kind} slot of this engine and model")
    return data[len(identity) :]


def _identity_tensor(owner: tuple[str, ...], config: ModelConfig) -> Tensor:
    text = json.dumps([*owner, config.shape()])
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def _identity_line(engine: str, kind: str, config: ModelConfig) -> bytes:
    return json.dumps(["earshot", engine, kind, config.shape()], sort_keys=True).encode() + b"\n"
