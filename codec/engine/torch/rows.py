"""Common parts of the engines in torch, where a slot is a row of one tensor with the states of all
streams of one direction."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from earshot.codec.engine.base import FrameCodes
from earshot.codec.engine.slots import Kind, Slots, check_codes, check_frames
from earshot.codec.engine.torch.step import Network, Place, lay_out
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.model.saved_state import seal, unseal
from earshot.codec.pcm import Pcm


class Bank:
    """The states of all streams of one direction, [rows, size] float32. A free row holds zeros, the
    start of a stream. The lowest free row is taken first, so that few streams lie close
    together."""

    def __init__(self, network: Network, rows: int) -> None:
        self.network = network
        self.states = torch.zeros(rows, network.size, device=network.place.device)
        self._free = list(range(rows))

    def take(self) -> int:
        return heapq.heappop(self._free)

    def give(self, row: int) -> None:
        self.clear(row)
        heapq.heappush(self._free, row)

    def clear(self, row: int) -> None:
        self.states[row] = 0

    def copy(self, row: int, to: int) -> None:
        self.states[to] = self.states[row]

    def save(self, row: int) -> bytes:
        return self.states[row].cpu().numpy().tobytes()

    def restore(self, row: int, data: bytes) -> None:
        if len(data) != 4 * self.network.size:
            raise UsageError("this saved state is damaged: it has another length")
        state = np.frombuffer(data, np.float32).copy()
        if not np.isfinite(state).all():
            raise UsageError("this saved state is damaged: it is not finite")
        self.states[row] = torch.from_numpy(state)


OwnBank = TypeVar("OwnBank", bound=Bank)


class RowEngine(Generic[OwnBank]):
    """`Engine` (codec/engine/base.py) except for the step itself, which subclasses define."""

    name: str
    """Name of the engine in its saved states."""

    def __init__(self, model: Model, encoders: int, decoders: int, place: Place, bank: type[OwnBank]) -> None:
        model.config.check_streams()
        weights = lay_out(model.network, place)
        self.model = model
        self._codebooks = weights.codebooks
        self._slots: Slots[int] = Slots(encoders, decoders)
        self._banks: dict[Kind, OwnBank] = {
            "encoder": bank(weights.encoder, encoders),
            "decoder": bank(weights.decoder, decoders),
        }

    def open_encoder(self) -> int:
        return self._open("encoder")

    def open_decoder(self) -> int:
        return self._open("decoder")

    def _open(self, kind: Kind) -> int:
        self._slots.check_room(kind)
        return self._slots.add(kind, self._banks[kind].take())

    @torch.inference_mode()
    def encode(self, slots: Sequence[int], frames: Pcm, n_q: Sequence[int]) -> list[FrameCodes]:
        rows = self._slots.states(slots, "encoder")
        check_frames(self.model.config, len(rows), frames, n_q)
        if not rows:
            return []
        codes = self._encode_rows(rows, frames, max(n_q)).numpy().astype(np.int16)
        return [own[:count] for own, count in zip(codes, n_q, strict=True)]

    @torch.inference_mode()
    def decode(self, slots: Sequence[int], codes: Sequence[FrameCodes]) -> Pcm:
        rows = self._slots.states(slots, "decoder")
        check_codes(self.model.config, len(rows), codes)
        if not rows:
            return np.zeros((0, self.model.hop_length), np.float32)
        return self._decode_rows(rows, codes).numpy()

    def _encode_rows(self, rows: list[int], frames: Pcm, n_q: int) -> Tensor:
        """Steps these rows, at least one, over frames [len(rows), hop]. Returns codes [len(rows),
        n_q or more]."""
        raise NotImplementedError

    def _decode_rows(self, rows: list[int], codes: Sequence[FrameCodes]) -> Tensor:
        """Steps these rows, at least one, over a frame of codes each. Returns samples [len(rows),
        hop]."""
        raise NotImplementedError

    def close(self, slot: int) -> None:
        kind, row = self._slots.remove(slot)
        self._banks[kind].give(row)

    def reset(self, slot: int) -> None:
        kind, row = self._slots.find(slot)
        self._banks[kind].clear(row)

    def copy(self, slot: int) -> int:
        kind, row = self._slots.find(slot)
        twin = self._open(kind)
        self._banks[kind].copy(row, self._slots.find(twin)[1])
        return twin

    def save(self, slot: int) -> bytes:
        kind, row = self._slots.find(slot)
        return seal(self.name, kind, self.model.config, self._banks[kind].save(row))

    def restore(self, slot: int, data: bytes) -> None:
        kind, row = self._slots.find(slot)
        self._banks[kind].restore(row, unseal(self.name, kind, self.model.config, data))
