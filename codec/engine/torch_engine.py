"""The readable engine: the network's own layers over the caches of the slots that step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from codec.engine.base import FrameCodes
from codec.errors import EngineFull, UsageError
from codec.model import Model
from codec.pcm import Pcm
from codec.seanet import SEANet


class _Bank:
    """The caches of all streams of one direction: for every layer one tensor, slots first."""

    def __init__(self, kind: str, net: SEANet, size: int) -> None:
        self.kind, self.net = kind, net
        self.caches = net.init_caches(size)
        self.free = list(reversed(range(size)))
        self.size = size

    def take(self) -> int:
        if not self.free:
            raise EngineFull(f"all {self.size} {self.kind} slots are taken")
        return self.free.pop()

    def give(self, row: int) -> None:
        self.clear(row)
        self.free.append(row)

    def clear(self, row: int) -> None:
        for cache in self.caches:
            cache[row] = 0

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
        self._encoders = _Bank("encoder", model.network.encoder, encoders)
        self._decoders = _Bank("decoder", model.network.decoder, decoders)
        self._open: dict[int, tuple[_Bank, int]] = {}
        self._next = 0

    def open_encoder(self) -> int:
        return self._open_in(self._encoders)

    def open_decoder(self) -> int:
        return self._open_in(self._decoders)

    def _open_in(self, bank: _Bank) -> int:
        row = bank.take()
        self._next += 1
        self._open[self._next] = (bank, row)
        return self._next

    def close(self, slot: int) -> None:
        bank, row = self._find(slot)
        del self._open[slot]
        bank.give(row)

    def reset(self, slot: int) -> None:
        bank, row = self._find(slot)
        bank.clear(row)

    def copy(self, slot: int) -> int:
        bank, row = self._find(slot)
        twin = self._open_in(bank)
        for cache in bank.caches:
            cache[self._open[twin][1]] = cache[row]
        return twin

    @torch.inference_mode()
    def encode(self, slots: Sequence[int], frames: Pcm, n_q: Sequence[int]) -> list[FrameCodes]:
        rows = self._rows(slots, self._encoders)
        if frames.shape != (len(slots), self.model.hop_length) or len(n_q) != len(slots):
            raise UsageError(f"{len(slots)} slots need [{len(slots)}, {self.model.hop_length}] samples and as many n_q")
        if not rows:
            return []
        if not all(1 <= count <= self.model.config.n_codebooks for count in n_q):
            raise UsageError(f"n_q must be in 1..{self.model.config.n_codebooks}")
        latents = self._encoders.step(rows, torch.tensor(frames)[:, None])
        codes = self.model.network.quantizer.encode(latents, max(n_q))[..., 0].numpy().astype(np.int16)
        return [own[:count] for own, count in zip(codes, n_q, strict=True)]

    @torch.inference_mode()
    def decode(self, slots: Sequence[int], codes: Sequence[FrameCodes]) -> Pcm:
        rows = self._rows(slots, self._decoders)
        if len(codes) != len(slots) or any(own.ndim != 1 for own in codes):
            raise UsageError(f"{len(slots)} slots need as many frames of codes [n_q]")
        if not rows:
            return np.zeros((0, self.model.hop_length), np.float32)
        latents = torch.cat([self._latents(own) for own in codes])
        return self._decoders.step(rows, latents)[:, 0].numpy()

    def _latents(self, codes: FrameCodes) -> Tensor:
        checked = torch.from_numpy(self.model.check_codes(codes[:, None]))
        return self.model.network.quantizer.decode(checked[None])

    def _find(self, slot: int) -> tuple[_Bank, int]:
        if slot not in self._open:
            raise UsageError(f"slot {slot} is not open")
        return self._open[slot]

    def _rows(self, slots: Sequence[int], bank: _Bank) -> list[int]:
        found = [self._find(slot) for slot in slots]
        if len(set(slots)) != len(slots) or any(owner is not bank for owner, _ in found):
            raise UsageError(f"slots of one step must be distinct {bank.kind} slots")
        return [row for _, row in found]
