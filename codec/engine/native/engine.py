"""The fast engine: packed weights and C++ kernels (this folder), exact in fp32, faster in bf16 and
int8.

A stream gives the same bits alone and together with others. The C++ is built when Earshot is
installed; if there was no compiler, importing this module raises ImportError."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch

from earshot.codec.engine.base import FrameCodes
from earshot.codec.engine.native import _native
from earshot.codec.engine.slots import Kind, Slots, check_codes, check_frames
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.codec.model.saved_state import seal, unseal
from earshot.codec.pcm import Pcm

NativePrecision = Literal["fp32", "bf16", "int8"]
"""`int8` is for the layers that run once a frame, whose time goes into reading weights. The other
layers are then in bf16 if the processor multiplies bf16, else in fp32."""


def kernel_names() -> list[str]:
    """Returns the sets of kernels that this processor can run, fastest first; the last is
    "portable"."""
    return _native.kernel_names()


def find_kernels(name: str) -> str:
    """Returns the name of the set of kernels that serves when `name` is asked for; "auto" is the
    fastest. Raises UsageError for unknown names."""
    known = kernel_names()
    if name not in ("auto", *known):
        raise UsageError(f"there are no kernels {name!r} for this processor; it has: auto, {', '.join(known)}")
    return known[0] if name == "auto" else name


def pack(model: Model, kernels: str = "auto", precision: NativePrecision = "fp32") -> _native.Network:
    """Packs the weights of a model, once for any number of sessions, engines and threads. Raises
    UsageError for models that do not stream or that the native engine does not know, and for
    kernels that this processor cannot run."""
    model.config.check_streams()
    return pack_network(model.network, kernels, precision)


def pack_network(network: Encodec, kernels: str = "auto", precision: NativePrecision = "fp32") -> _native.Network:
    """Packs a network that streams. Later calls return the weights as they were at the first
    call."""
    packed = _packed.setdefault(network, {})
    if (kernels, precision) not in packed:
        tensors = {name: tensor.detach().float() for name, tensor in network.state_dict().items()}
        books = tensors["quantizer.codebooks"]
        tensors["quantizer.norms"] = torch.stack(
            [book.t().pow(2).sum(0) for book in books]
        )  # the same operations as in codec/model/quantizer.py
        try:
            arrays = {name: tensor.contiguous().numpy() for name, tensor in tensors.items()}
            packed[kernels, precision] = _native.Network(asdict(network.config), arrays, kernels, precision)
        except ValueError as error:
            raise UsageError(str(error)) from error
    return packed[kernels, precision]


_packed: WeakKeyDictionary[Encodec, dict[tuple[str, NativePrecision], _native.Network]] = WeakKeyDictionary()


class NativeEngine:
    """`Engine` (codec/engine/base.py) in C++, on the CPU. `network` is what `pack` returned for the
    model."""

    def __init__(
        self, model: Model, encoders: int = 64, decoders: int = 64, network: _native.Network | None = None
    ) -> None:
        self.model = model
        self.network = network or pack(model)
        self._spaces: list[_native.Workspace] = []
        self._slots: Slots[_native.State] = Slots(encoders, decoders)

    def open_encoder(self) -> int:
        self._slots.check_room("encoder")
        return self._slots.add("encoder", self.network.encoder())

    def open_decoder(self) -> int:
        self._slots.check_room("decoder")
        return self._slots.add("decoder", self.network.decoder())

    def close(self, slot: int) -> None:
        self._slots.remove(slot)

    def reset(self, slot: int) -> None:
        self._slots.find(slot)[1].reset()

    def copy(self, slot: int) -> int:
        kind, state = self._slots.find(slot)
        self._slots.check_room(kind)
        return self._slots.add(kind, state.copy())

    def save(self, slot: int) -> bytes:
        kind, state = self._slots.find(slot)
        return seal("native", kind, self.model.config, state.save())

    def restore(self, slot: int, data: bytes) -> None:
        kind, state = self._slots.find(slot)
        restore(self.model, kind, state, unseal("native", kind, self.model.config, data))

    def encode(self, slots: Sequence[int], frames: Pcm, n_q: Sequence[int]) -> list[FrameCodes]:
        states = self._slots.states(slots, "encoder")
        check_frames(self.model.config, len(states), frames, n_q)
        if not states:
            return []
        with self._space() as space:
            codes = self.network.encode(space, states, np.asarray(frames, np.float32), n_q)
        return [own[:count] for own, count in zip(codes, n_q, strict=True)]

    def decode(self, slots: Sequence[int], codes: Sequence[FrameCodes]) -> Pcm:
        states = self._slots.states(slots, "decoder")
        check_codes(self.model.config, len(states), codes)
        if not states:
            return np.zeros((0, self.model.hop_length), np.float32)
        n_q = [len(own) for own in codes]
        together = np.zeros((len(states), max(n_q)), np.int16)
        for row, own in zip(together, codes, strict=True):
            row[: len(own)] = own
        with self._space() as space:
            return self.network.decode(space, states, together, n_q)

    @contextmanager
    def _space(self) -> Iterator[_native.Workspace]:
        """Lends memory for one step. As many pieces exist as steps have run at once."""
        try:
            space = self._spaces.pop()
        except IndexError:
            space = _native.Workspace()
        yield space
        self._spaces.append(space)


def restore(model: Model, kind: Kind, state: _native.State, data: bytes) -> None:
    """Overwrites `state`. Raises UsageError, and changes nothing, for bytes that are not a state of
    this size."""
    try:
        state.restore(data)
    except ValueError as error:
        raise UsageError(f"this saved {kind} state of {model.name} is damaged: {error}") from error
