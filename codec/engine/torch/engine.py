"""The engine that every machine has: torch on the CPU, exact in float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from earshot.codec.engine.base import FrameCodes
from earshot.codec.engine.torch.rows import Bank, RowEngine
from earshot.codec.engine.torch.step import CPU
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm


class TorchEngine(RowEngine[Bank]):
    """`Engine` (codec/engine/base.py) in torch, on the CPU: it gathers the states of the streams
    that step, steps them together, and puts them back."""

    name = "torch"

    def __init__(self, model: Model, encoders: int = 64, decoders: int = 64) -> None:
        super().__init__(model, encoders, decoders, CPU, Bank)

    def _encode_rows(self, rows: list[int], frames: Pcm, n_q: int) -> Tensor:
        pcm = torch.tensor(np.asarray(frames, np.float32))
        return self._codebooks.encode(_step(self._banks["encoder"], rows, pcm[:, :, None])[:, 0], n_q)

    def _decode_rows(self, rows: list[int], codes: Sequence[FrameCodes]) -> Tensor:
        entries = torch.from_numpy(self._codebooks.rows(codes, max(map(len, codes))))
        return _step(self._banks["decoder"], rows, self._codebooks.decode(entries)[:, None])[:, :, 0]


def _step(bank: Bank, rows: Sequence[int], x: Tensor) -> Tensor:
    index = torch.tensor(rows)
    y, moved = bank.network.step(x, bank.states[index])
    bank.states[index] = moved
    return y
