"""Sessions that step as matrix products. What those do not do, the network's own layers do: the first step of a stream
that starts on `reflect`, and the partial last frame. The state is the same: each goes on from the other's."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from codec.config import Padding
from codec.engine.torch_step import CPU, Network, Place, lay_out
from codec.model import Sessions
from codec.network import Encodec
from codec.streaming import Codes, DecoderSession, EncoderSession, StreamState

FRAMES_AT_ONCE = 16
"""More than that gains little, and the windows of a long sound would take a multiple of its memory."""


class TorchSessions(Sessions):
    """Makes sessions that step at `place`. The weights are laid out for the first of them."""

    def __init__(self, network: Encodec, place: Place = CPU) -> None:
        super().__init__(network)
        self._place = place

    def encoder(self, kbps: float, start: Padding) -> EncoderSession:
        return TorchEncoderSession(self.network, self._place, kbps, start)

    def decoder(self, start: Padding) -> DecoderSession:
        return TorchDecoderSession(self.network, self._place, start)


class TorchEncoderSession(EncoderSession):
    """PCM in, codes out."""

    def __init__(self, network: Encodec, place: Place, kbps: float, start: Padding = "zeros") -> None:
        self._weights = lay_out(network, place)
        super().__init__(network, kbps, start)

    def _codes(self, pcm: Tensor | None, last: bool) -> Codes:
        if pcm is None or not _goes_on(self._state, last):
            return super()._codes(pcm, last)
        codes = [
            self._weights.codebooks.encode(latents[0], self._n_q)
            for latents in _steps(self._state, self._weights.encoder, pcm, self._unit)
        ]
        return np.concatenate([own.cpu().numpy().astype(np.int16) for own in codes]).T


class TorchDecoderSession(DecoderSession):
    """Codes in, PCM out."""

    def __init__(self, network: Encodec, place: Place, start: Padding = "zeros") -> None:
        self._weights = lay_out(network, place)
        super().__init__(network, start)

    def _pcm(self, latents: Tensor | None, last: bool) -> np.ndarray:
        if latents is None or not _goes_on(self._state, last):
            return super()._pcm(latents, last)
        return np.concatenate(
            [pcm[0, :, 0].cpu().numpy() for pcm in _steps(self._state, self._weights.decoder, latents, 1)]
        )


def _goes_on(state: StreamState, last: bool) -> bool:
    """Whether the next step is one of whole frames over what was kept; else the state goes to where the network is."""
    if not last and (state.caches is not None or state.padding == "zeros"):
        return True
    if state.caches is not None:
        state.caches = [cache.cpu() for cache in state.caches]
    return False


def _steps(state: StreamState, network: Network, x: Tensor, unit: int) -> list[Tensor]:
    """[1, C_in, frames * unit] -> parts [1, T, C_out] of a few frames each."""
    device = network.place.device
    if state.caches is None:
        kept = [x.new_zeros(1, *layer.kept, device=device) for layer in network.layers]
    else:
        kept = [_turn(cache).to(device) for cache in state.caches]
    parts = []
    for part in torch.split(x.to(device).transpose(1, 2), FRAMES_AT_ONCE * unit, dim=1):
        y, kept = network.step_layers(part, kept)
        parts.append(y)
    state.caches = [_turn(own.clone()) for own in kept]  # not a view that holds the whole window
    return parts


def _turn(kept: Tensor) -> Tensor:
    """Between time-major and the channels-major caches of `codec.seanet`; the LSTM's has neither."""
    return kept.transpose(1, 2) if kept.dim() == 3 else kept
