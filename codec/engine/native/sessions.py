"""Sessions that step in the native engine. Torch takes the steps that the native engine cannot: the
first step of a stream that starts on `reflect`, and the partial last frame. A stream can be saved
in one engine and continue in the other."""

from __future__ import annotations

from contextlib import suppress
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from earshot.codec.bitstream import Codes
from earshot.codec.config import Padding
from earshot.codec.engine.native import _native
from earshot.codec.engine.native.engine import NativePrecision, pack_network
from earshot.codec.model.model import SessionFactory
from earshot.codec.model.network import Encodec
from earshot.codec.model.postfilter import TAPS, Postfilter
from earshot.codec.model.seanet import CausalConv1d, CausalConvTranspose1d, ResidualLSTM, ResidualUnit, SEANet
from earshot.codec.model.streaming import NATIVE, DecoderSession, EncoderSession, FrameSession, StreamState, check_codes
from earshot.codec.pcm import Pcm

LANES = 16
"""Channels are padded to whole vectors of this width, as in memory.h."""


class NativeSessionFactory(SessionFactory):
    """Makes sessions that step in C++. The weights are packed when the first session in a precision
    is made."""

    def __init__(
        self,
        network: Encodec,
        kernels: str = "auto",
        encoding: NativePrecision = "fp32",
        decoding: NativePrecision = "fp32",
    ) -> None:
        super().__init__(network)
        self._kernels, self._encoding, self._decoding = kernels, encoding, decoding

    def encoder(self, kbps: float, start: Padding) -> EncoderSession:
        return NativeEncoderSession(self.network, self._pack(self._encoding), kbps, start)

    def decoder(self, start: Padding) -> DecoderSession:
        return NativeDecoderSession(self.network, self._pack(self._decoding), start)

    def _pack(self, precision: NativePrecision) -> _native.Network:
        return pack_network(self.network, self._kernels, precision)


class _NativeSession(FrameSession):
    """A session whose state is `_live`, in the native engine, or else the caches of the base
    class."""

    _packed: _native.Network
    _work: _native.Workspace

    def _begin(self) -> _native.State:
        """Returns the state of a new stream."""
        return self._packed.encoder() if self.kind == "encoder" else self._packed.decoder()

    def reset(self) -> None:
        super().reset()
        self._live = self._begin() if self.start == "zeros" else None

    def copy(self) -> Self:
        twin = super().copy()
        twin._work, twin._live = _native.Workspace(), self._live and self._live.copy()
        return twin

    def _export(self) -> None:
        """Brings the caches of the base class up to date."""
        if self._live is not None:
            self._state = StreamState(self.start, export_caches(self._net, self._live.save()))

    def _state_tensors(self) -> dict[str, Tensor]:
        self._export()
        return super()._state_tensors()


class NativeEncoderSession(_NativeSession, EncoderSession):
    """Turns PCM into codes."""

    def __init__(self, network: Encodec, packed: _native.Network, kbps: float, start: Padding = "zeros") -> None:
        self._packed, self._work = packed, _native.Workspace()
        EncoderSession.__init__(self, network, kbps, start)

    def _codes(self, pcm: Tensor | None, last: bool) -> Codes:
        if pcm is None:
            return super()._codes(None, last)
        if self._live is None or last:
            self._export()
            self._live = None
            codes = super()._codes(pcm, last)
            self._import()
            return codes
        frames = pcm.reshape(-1, 1, self._unit).numpy()
        n_q = [self._n_q]
        return np.stack([self._packed.encode(self._work, [self._live], frame, n_q)[0] for frame in frames], axis=1)

    def _import(self) -> None:
        """Moves the state from the caches to the native engine."""
        if self._state.caches is not None:
            live = self._begin()
            # A state that is not finite stays in the caches; only a damaged one can be so.
            with suppress(ValueError):
                live.restore(import_caches(self._net, self._state.caches))
                self._live = live

    def _take_tensors(self, tensors: dict[str, Tensor]) -> bool:
        if not super()._take_tensors(tensors):
            return False
        self._live = self._begin() if self.start == "zeros" and self._state.caches is None else None
        self._import()
        return True


class NativeDecoderSession(_NativeSession, DecoderSession):
    """Turns codes into PCM. Streams that start on `reflect`, and states that were saved in torch,
    continue in torch: its caches do not say what the native engine keeps."""

    def __init__(self, network: Encodec, packed: _native.Network, start: Padding = "zeros") -> None:
        self._packed, self._work = packed, _native.Workspace()
        DecoderSession.__init__(self, network, start)

    def push(self, codes: ArrayLike) -> Pcm:
        if self._live is None or self._ended:
            return super().push(codes)
        checked = check_codes(codes, self._network.config).astype(np.int16)
        n_q = [checked.shape[0]]
        heard = [self._packed.decode(self._work, [self._live], frame[None], n_q)[0] for frame in checked.T]
        return np.concatenate(heard) if heard else np.zeros(0, np.float32)

    def _state_tensors(self) -> dict[str, Tensor]:
        own = {} if self._live is None else {NATIVE: torch.frombuffer(bytearray(self._live.save()), dtype=torch.uint8)}
        return super()._state_tensors() | own

    def _take_tensors(self, tensors: dict[str, Tensor]) -> bool:
        if not super()._take_tensors(tensors):
            return False
        own = tensors.get(NATIVE)
        begun = self._state.caches is not None
        self._live = self._begin() if self.start == "zeros" and (own is not None or not begun) else None
        if self._live is not None and own is not None:
            try:
                self._live.restore(own.numpy().tobytes())
            except ValueError:  # other kernels saved it, or it is damaged; the caches have been checked
                self._live = None
        return True


def export_caches(net: SEANet, data: bytes) -> list[Tensor]:
    """Converts a state of the native engine to the caches of the layers."""
    rest = torch.frombuffer(bytearray(data), dtype=torch.float32)
    caches, encodes = [], not isinstance(net.layers[1], ResidualLSTM)

    def take(rows: int, channels: int, width: int) -> Tensor:
        nonlocal rest
        own = rest[: rows * width].view(rows, width)[:, :channels]
        rest = rest[_padded(rows * width) :]
        return own

    for index, layer in enumerate(net.layers):
        if isinstance(conv := _convolution(layer), CausalConv1d):
            caches.append(take(conv.context, conv.in_channels, _width(conv, encodes and index == 0)).t()[None].clone())
        elif isinstance(layer, CausalConvTranspose1d):
            before = take(1, layer.in_channels, _padded(layer.in_channels))
            later = F.conv_transpose1d(before.t()[None], layer.weight, None, layer.stride)[..., layer.stride[0] :]
            caches.append(later.clone())
        elif isinstance(layer, ResidualLSTM):
            size, layers = layer.lstm.hidden_size, layer.lstm.num_layers
            pairs = [torch.cat([take(1, size, _padded(size)) for _ in "hc"]) for _ in range(layers)]
            caches.append(torch.stack(pairs, dim=1)[None].clone())
        elif isinstance(layer, Postfilter):
            caches.append(torch.cat([take(1, size, _padded(size)) for size in (layer.kept, TAPS)], dim=1).clone())
        else:
            caches.append(torch.zeros(1, 0))
    return caches


def import_caches(net: SEANet, caches: list[Tensor]) -> bytes:
    """Converts the caches of an encoder's layers to a state of the native engine."""
    parts = []

    def give(rows: Tensor, width: int) -> None:
        laid = F.pad(rows, (0, width - rows.shape[1])).flatten()
        parts.append(F.pad(laid, (0, _padded(laid.numel()) - laid.numel())))

    for index, (layer, cache) in enumerate(zip(net.layers, caches, strict=True)):
        if isinstance(conv := _convolution(layer), CausalConv1d):
            give(cache[0].t(), _width(conv, index == 0))
        elif isinstance(layer, ResidualLSTM):
            for pair in cache[0].unbind(1):
                for row in pair:
                    give(row[None], _padded(row.numel()))
    return torch.cat(parts).numpy().tobytes()


def _convolution(layer: object) -> object:
    return layer.narrow if isinstance(layer, ResidualUnit) else layer


def _width(conv: CausalConv1d, pcm: bool) -> int:
    """Returns the distance between two samples in floats. PCM, the input of the encoder's first
    layer, has no padding."""
    return 1 if pcm else _padded(conv.in_channels)


def _padded(size: int) -> int:
    return -(-size // LANES) * LANES
