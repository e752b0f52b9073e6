"""Sessions that step as matrix products. The network's own layers take the other steps: the first
step of a stream that starts on `reflect`, the partial last frame, and long pushes. Both use the
same state, so each continues where the other stopped."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from earshot.codec.bitstream import Codes
from earshot.codec.config import Padding
from earshot.codec.engine.torch.step import CPU, Network, Place, lay_out
from earshot.codec.model.model import SessionFactory
from earshot.codec.model.network import Encodec
from earshot.codec.model.streaming import DecoderSession, EncoderSession, StreamState

MOST_FRAMES = 32
"""Most frames in a step of matrix products. With more, the network's own layers are as fast or
faster (measured), and need no memory for windows."""


class TorchSessionFactory(SessionFactory):
    """Makes sessions that step at `place`. The weights are laid out when the first session is
    made."""

    def __init__(self, network: Encodec, place: Place = CPU) -> None:
        super().__init__(network)
        self._place = place

    def encoder(self, kbps: float, start: Padding) -> EncoderSession:
        return TorchEncoderSession(self.network, self._place, kbps, start)

    def decoder(self, start: Padding) -> DecoderSession:
        return TorchDecoderSession(self.network, self._place, start)


class TorchEncoderSession(EncoderSession):
    """Turns PCM into codes."""

    def __init__(self, network: Encodec, place: Place, kbps: float, start: Padding = "zeros") -> None:
        self._weights = lay_out(network, place)
        super().__init__(network, kbps, start)

    def _codes(self, pcm: Tensor | None, last: bool) -> Codes:
        if pcm is None or last or not _takes(self._state, pcm.shape[-1] // self._unit):
            return super()._codes(pcm, last)
        latents = _step(self._state, self._weights.encoder, pcm)
        return self._weights.codebooks.encode(latents[0], self._n_q).T.cpu().numpy().astype(np.int16)


class TorchDecoderSession(DecoderSession):
    """Turns codes into PCM."""

    def __init__(self, network: Encodec, place: Place, start: Padding = "zeros") -> None:
        self._weights = lay_out(network, place)
        super().__init__(network, start)

    def _pcm(self, latents: Tensor | None, last: bool) -> np.ndarray:
        if latents is None or last or not _takes(self._state, latents.shape[-1]):
            return super()._pcm(latents, last)
        return _step(self._state, self._weights.decoder, latents)[0, :, 0].cpu().numpy()


def _takes(state: StreamState, frames: int) -> bool:
    """Returns whether the next step is done as matrix products. If not, the state is moved to the
    device of the network."""
    if frames <= MOST_FRAMES and (state.caches is not None or state.padding == "zeros"):
        return True
    if state.caches is not None:
        state.caches = [cache.cpu() for cache in state.caches]
    return False


def _step(state: StreamState, network: Network, x: Tensor) -> Tensor:
    """Steps over [1, C_in, T]. Returns [1, T', C_out]."""
    device = network.place.device
    if state.caches is None:
        kept = [x.new_zeros(1, *layer.kept, device=device) for layer in network.layers]
    else:
        kept = [_turn(cache).to(device) for cache in state.caches]
    y, kept = network.step_layers(x.to(device).transpose(1, 2), kept)
    state.caches = [_turn(own.clone()) for own in kept]  # a view would keep the whole window alive
    return y


def _turn(kept: Tensor) -> Tensor:
    """Swaps time and channels of a cache, between the order here and that of codec/model/seanet.py.
    The cache of the LSTM has no time and stays as it is."""
    return kept.transpose(1, 2) if kept.dim() == 3 else kept
