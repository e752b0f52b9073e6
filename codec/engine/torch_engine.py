"""The readable engine: the network's own layers over the caches of the slots that step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from codec.engine.base import FrameCodes
from codec.engine.slots import Kind, Slots, check_codes, check_frames, seal, unseal
from codec.errors import UsageError
from codec.model import Model
from codec.pcm import Pcm
from codec.seanet import SEANet


class _Bank:
    """The caches of all streams of one direction: for every layer one tensor, slots first."""

    def __init__(self, net: SEANet, size: int) -> None:
        self.net = net
        self.caches = net.init_caches(size)
        self.free = list(reversed(range(size)))

    def clear(self, row: int) -> None:
        for cache in self.caches:
            cache[row] = 0

    def save(self, row: int) -> bytes:
        return torch.cat([cache[row].flatten() for cache in self.caches]).numpy().tobytes()

    def restore(self, row: int, data: bytes) -> None:
        sizes = [cache[row].numel() for cache in self.caches]
        if len(data) != 4 * sum(sizes):
            raise UsageError("this saved state is damaged: it has another length")
        values = np.frombuffer(data, np.float32).copy()
        if not np.isfinite(values).all():
            raise UsageError("this saved state is damaged: it is not finite")
        for cache, own in zip(self.caches, np.split(values, np.cumsum(sizes)[:-1]), strict=True):
            cache[row] = torch.from_numpy(own).view_as(cache[row])

    def step(self, rows: list[int], x: Tensor) -> Tensor:
        index = torch.tensor(rows)
        y, moved = self.net.step(x, [cache[index] for cache in self.caches], "zeros", last=False)
        for cache, new in zip(self.caches, moved, strict=True):
            cache[index] = new
        return y


class TorchEngine:
    """`codec.engine.base.Engine` in torch, on the CPU."""

    def __init__(self, model: Model, encoders: int = 64, decoders: int = 64) -> None:
        model.config.check_streams()
        self.model = model
        self._slots: Slots[int] = Slots(encoders, decoders)
        self._banks: dict[Kind, _Bank] = {
            "encoder": _Bank(model.network.encoder, encoders),
            "decoder": _Bank(model.network.decoder, decoders),
        }

    def open_encoder(self) -> int:
        return self._open("encoder")

    def open_decoder(self) -> int:
        return self._open("decoder")

    def _open(self, kind: Kind) -> int:
        self._slots.check_room(kind)
        return self._slots.add(kind, self._banks[kind].free.pop())

    def close(self, slot: int) -> None:
        kind, row = self._slots.remove(slot)
        self._banks[kind].clear(row)
        self._banks[kind].free.append(row)

    def reset(self, slot: int) -> None:
        kind, row = self._slots.find(slot)
        self._banks[kind].clear(row)

    def copy(self, slot: int) -> int:
        kind, row = self._slots.find(slot)
        twin = self._open(kind)
        for cache in self._banks[kind].caches:
            cache[self._slots.find(twin)[1]] = cache[row]
        return twin

    def save(self, slot: int) -> bytes:
        kind, row = self._slots.find(slot)
        return seal("torch", kind, self.model.config, self._banks[kind].save(row))

    def restore(self, slot: int, data: bytes) -> None:
        kind, row = self._slots.find(slot)
        self._banks[kind].restore(row, unseal("torch", kind, self.model.config, data))

    @torch.inference_mode()
    def encode(self, slots: Sequence[int], frames: Pcm, n_q: Sequence[int]) -> list[FrameCodes]:
        rows = self._slots.states(slots, "encoder")
        check_frames(self.model.config, len(rows), frames, n_q)
        if not rows:
            return []
        latents = self._banks["encoder"].step(rows, torch.tensor(frames)[:, None])
        codes = self.model.network.quantizer.encode(latents, max(n_q))[..., 0].numpy().astype(np.int16)
        return [own[:count] for own, count in zip(codes, n_q, strict=True)]

    @torch.inference_mode()
    def decode(self, slots: Sequence[int], codes: Sequence[FrameCodes]) -> Pcm:
        rows = self._slots.states(slots, "decoder")
        check_codes(self.model.config, len(rows), codes)
        if not rows:
            return np.zeros((0, self.model.hop_length), np.float32)
        latents = torch.cat([self._latents(own) for own in codes])
        return self._banks["decoder"].step(rows, latents)[:, 0].numpy()

    def _latents(self, codes: FrameCodes) -> Tensor:
        return self.model.network.quantizer.decode(torch.from_numpy(codes.astype(np.int64))[None, :, None])
