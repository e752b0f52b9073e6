"""The engine that is everywhere: torch on the CPU, exact in float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from codec.engine.base import FrameCodes
from codec.engine.rows import Bank, RowEngine
from codec.engine.slots import check_codes, check_frames
from codec.engine.torch_step import CPU
from codec.model import Model
from codec.pcm import Pcm


class TorchEngine(RowEngine[Bank]):
    """`codec.engine.base.Engine` in torch, on the CPU: the states of the streams that step are gathered, stepped
    together, and put back."""

    name = "torch"

    def __init__(self, model: Model, encoders: int = 64, decoders: int = 64) -> None:
        super().__init__(model, encoders, decoders, CPU, Bank)

    @torch.inference_mode()
    def encode(self, slots: Sequence[int], frames: Pcm, n_q: Sequence[int]) -> list[FrameCodes]:
        rows = self._slots.states(slots, "encoder")
        check_frames(self.model.config, len(rows), frames, n_q)
        if not rows:
            return []
        pcm = torch.tensor(np.asarray(frames, np.float32))
        latents = _step(self._banks["encoder"], rows, pcm[:, :, None])[:, 0]
        codes = self._codebooks.encode(latents, max(n_q)).numpy().astype(np.int16)
        return [own[:count] for own, count in zip(codes, n_q, strict=True)]

    @torch.inference_mode()
    def decode(self, slots: Sequence[int], codes: Sequence[FrameCodes]) -> Pcm:
        rows = self._slots.states(slots, "decoder")
        check_codes(self.model.config, len(rows), codes)
        if not rows:
            return np.zeros((0, self.model.hop_length), np.float32)
        entries = torch.from_numpy(self._codebooks.rows(codes, max(map(len, codes))))
        latents = self._codebooks.decode(entries)
        return _step(self._banks["decoder"], rows, latents[:, None])[:, :, 0].numpy()


def _step(bank: Bank, rows: Sequence[int], x: Tensor) -> Tensor:
    index = torch.tensor(rows)
    y, moved = bank.network.step(x, bank.states[index])
    bank.states[index] = moved
    return y
