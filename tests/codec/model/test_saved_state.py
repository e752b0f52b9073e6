"""Saved states: who may restore them, and their bytes, which later versions must still read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
import torch

from earshot.codec.config import LITE_24KHZ
from earshot.codec.errors import UsageError
from earshot.codec.model.saved_state import pack_tensors, seal, unpack_tensors, unseal

OWNER = ("encoder", "zeros")
OTHER_SHAPE = replace(LITE_24KHZ, n_filters=8)
SAME_SHAPE = replace(LITE_24KHZ, name="other", bandwidths=(6.0,))


def test_tensors_come_back_in_the_same_owner_and_shape_of_model() -> None:
    data = pack_tensors(OWNER, LITE_24KHZ, True, {"held": torch.arange(6.0).view(2, 3).t()})
    ended, tensors = unpack_tensors(OWNER, SAME_SHAPE, data)
    assert ended
    assert tensors.keys() == {"held"}
    assert tensors["held"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert not unpack_tensors(OWNER, LITE_24KHZ, pack_tensors(OWNER, LITE_24KHZ, False, {}))[0]


def test_another_owner_or_model_is_refused() -> None:
    data = pack_tensors(OWNER, LITE_24KHZ, False, {})
    for owner, config in ((("decoder", "zeros"), LITE_24KHZ), (("encoder",), LITE_24KHZ), (OWNER, OTHER_SHAPE)):
        with pytest.raises(UsageError, match="another kind of session"):
            unpack_tensors(owner, config, data)
    for broken in (b"", data[:-1], data[:20], b"x" + data):
        with pytest.raises(UsageError, match="no saved session state"):
            unpack_tensors(OWNER, LITE_24KHZ, broken)


def test_sealed_states_come_back_in_the_same_engine_slot_and_shape_of_model() -> None:
    data = seal("torch", "encoder", LITE_24KHZ, b"state")
    assert unseal("torch", "encoder", SAME_SHAPE, data) == b"state"
    for engine, kind, config in (
        ("native", "encoder", LITE_24KHZ),
        ("torch", "decoder", LITE_24KHZ),
        ("torch", "encoder", OTHER_SHAPE),
    ):
        with pytest.raises(UsageError, match="no saved state"):
            unseal(engine, kind, config, data)
    with pytest.raises(UsageError, match="no saved state"):
        unseal("torch", "encoder", LITE_24KHZ, data[1:])


def test_bytes_are_as_they_always_were() -> None:
    sealed = seal("torch", "encoder", LITE_24KHZ, b"state")
    line, state = sealed.split(b"\n")
    assert json.loads(line)[:3] == ["earshot", "torch", "encoder"]
    assert state == b"state"
    assert hashlib.sha256(sealed).hexdigest()[:16] == "bdd27ce86a164adc"
    packed = pack_tensors(OWNER, LITE_24KHZ, False, {"held": torch.ones(1, 1, 3), "cache.0": torch.zeros(1, 2)})
    assert hashlib.sha256(packed).hexdigest()[:16] == "e0fd9ff6c1619565"
