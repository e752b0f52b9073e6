"""Sessions that work frame by frame.

A session that starts on `zeros` equals the same network padded with zeros and answers from the
first frame. A session that starts on `reflect` equals the official offline network: it waits until
the first step holds enough frames (`reflect_frames`) for every layer to reflect, then continues
frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from earshot.codec.bitstream import Codes
from earshot.codec.config import ModelConfig, Padding
from earshot.codec.errors import UsageError
from earshot.codec.model.network import Encodec
from earshot.codec.model.seanet import SEANet
from earshot.codec.model.session import Encoding, Session
from earshot.codec.pcm import Pcm, as_pcm

NATIVE = "native"
"""Name of the tensor that holds the native engine's own state in a saved state. Other engines
ignore it and continue from the caches."""


def reflect_frames(config: ModelConfig) -> int:
    """Returns how many frames the first step of a reflecting stream must hold: one more than the
    widest convolution at frame rate looks back (the encoder's last, the decoder's first)."""
    return max(config.kernel_size, config.last_kernel_size)


def check_codes(codes: ArrayLike, config: ModelConfig) -> NDArray[np.int64]:
    """Returns codes [n_q, k] as int64. Raises UsageError for another shape, too many codebooks or
    codes out of range."""
    array = np.asarray(codes)
    if array.ndim != 2 or not 1 <= array.shape[0] <= config.n_codebooks:
        raise UsageError(f"codes must be [n_q, frames] with n_q in 1..{config.n_codebooks}, not {array.shape}")
    if array.dtype.kind not in "iu":
        raise UsageError(f"codes must be whole numbers, not {array.dtype}")
    if array.size and (int(array.min()) < 0 or int(array.max()) >= config.codebook_size):
        raise UsageError(f"codes must be in 0..{config.codebook_size - 1}")
    return array.astype(np.int64)


@dataclass
class StreamState:
    """How far a stream through a SEANet has come: `caches` is None until its first step."""

    padding: Padding
    caches: list[Tensor] | None = None

    def step(self, net: SEANet, x: Tensor, last: bool) -> Tensor:
        y, self.caches = net.step(x, self.caches, self.padding, last)
        return y

    def copy(self) -> StreamState:
        return StreamState(self.padding, [cache.clone() for cache in self.caches] if self.caches else None)


class FrameSession(Session):
    """A session that keeps input until it makes whole frames, and steps over these.

    `unit` is the number of time steps of the input in a frame."""

    def __init__(self, network: Encodec, net: SEANet, start: Padding, unit: int, channels: int) -> None:
        network.config.check_streams()
        if start not in ("zeros", "reflect"):
            raise UsageError(f"start must be 'zeros' or 'reflect', not {start!r}")
        super().__init__(network)
        self.start: Padding = start
        self._net = net
        self._unit = unit
        self._first = unit * (reflect_frames(network.config) if start == "reflect" else 1)
        self._channels = channels
        self.reset()

    def reset(self) -> None:
        """Goes back to the start of a new stream."""
        self._state = StreamState(self.start)
        self._hold(torch.zeros(1, self._channels, 0))
        self._ended = False

    def copy(self) -> Self:
        """Returns an independent session that continues from the same point."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._state = self._state.copy()
        twin._pieces = list(self._pieces)
        return twin

    def _hold(self, x: Tensor) -> None:
        """Keeps `x`, and nothing else, for the next step."""
        self._pieces, self._waiting = [x], x.shape[-1]

    def _held(self) -> Tensor:
        return torch.cat(self._pieces, dim=-1)

    def _push(self, x: Tensor) -> Tensor | None:
        """Adds `x` to what is held and takes the whole frames out of it. Returns None where there
        are not enough for a step yet."""
        self._check_open()
        if x.shape[-1]:
            self._pieces.append(x)
            self._waiting += x.shape[-1]
        if self._waiting < (self._first if self._state.caches is None else self._unit):
            return None  # pieces are joined only when they make a frame: pushes of single samples stay cheap
        held, ready = self._held(), self._waiting - self._waiting % self._unit
        self._hold(held[..., ready:].clone())
        return held[..., :ready]

    def _flush(self) -> Tensor | None:
        """Ends the stream. Returns what was held, which is for the last step."""
        held, ended = self._held(), self._ended
        self._hold(held[..., :0])
        self._ended = True
        return None if ended or not held.shape[-1] else held

    def _owner(self) -> tuple[str, ...]:
        return self.kind, self.start

    def _state_tensors(self) -> dict[str, Tensor]:
        caches = {_cache(index): cache for index, cache in enumerate(self._state.caches or [])}
        return {"held": self._held(), **caches}

    def _take_tensors(self, tensors: dict[str, Tensor]) -> bool:
        names = [_cache(index) for index in range(len(tensors.keys() - {"held", NATIVE}))]
        if not tensors.keys() >= {"held", *names}:
            return False
        held, caches = tensors["held"], [tensors[name] for name in names]
        shapes = [cache.shape for cache in self._net.init_caches(1)]
        if (caches and [cache.shape for cache in caches] != shapes) or held.shape[:-1] != (1, self._channels):
            return False
        self._state = StreamState(self.start, caches or None)
        self._hold(held)
        return True


def _cache(index: int) -> str:
    return f"cache.{index}"


class EncoderSession(FrameSession, Encoding):
    """Turns PCM into codes. `Model.encoder` makes it."""

    kind = "encoder"

    def __init__(self, network: Encodec, kbps: float, start: Padding = "zeros") -> None:
        super().__init__(network, network.encoder, start, unit=network.config.hop_length, channels=1)
        self.replaced_samples = 0
        self.kbps = kbps

    @torch.inference_mode()
    def push(self, pcm: ArrayLike) -> Codes:
        """Takes samples [n] in -1..1, any n >= 0. Returns int16 codes [n_q, k] of the k whole
        frames that they complete.

        NaN and infinite samples are replaced by silence, counted in `replaced_samples` and
        logged."""
        clean = self._sanitized(as_pcm(pcm))
        return self._codes(self._push(torch.tensor(clean)[None, None]), last=False)

    @torch.inference_mode()
    def flush(self) -> Codes:
        """Ends the stream. Returns the codes of the partial last frame, and of all frames of a
        `reflect` stream that was too short to start; [n_q, 0] if nothing is held."""
        return self._codes(self._flush(), last=True)

    def _codes(self, pcm: Tensor | None, last: bool) -> Codes:
        """Steps over samples [1, 1, T]."""
        if pcm is None:
            return np.zeros((self._n_q, 0), np.int16)
        latents = self._state.step(self._net, pcm, last)
        return self._network.quantizer.encode(latents, self._n_q)[0].numpy().astype(np.int16)


class DecoderSession(FrameSession):
    """Turns codes into PCM. `Model.decoder` makes it."""

    kind = "decoder"

    def __init__(self, network: Encodec, start: Padding = "zeros") -> None:
        super().__init__(network, network.decoder, start, unit=1, channels=network.config.dimension)

    @torch.inference_mode()
    def push(self, codes: ArrayLike) -> Pcm:
        """Takes codes [n_q, k]; n_q may change from call to call. Returns float32 [hop * k]. A
        `reflect` stream returns nothing until it holds enough frames, then all of them. Raises
        UsageError for codes that the model does not have."""
        checked = torch.from_numpy(check_codes(codes, self._network.config))
        return self._pcm(self._push(self._network.quantizer.decode(checked[None])), last=False)

    @torch.inference_mode()
    def flush(self) -> Pcm:
        """Ends the stream. Returns the samples of a `reflect` stream that was too short to start,
        and none for others."""
        return self._pcm(self._flush(), last=True)

    def _pcm(self, latents: Tensor | None, last: bool) -> Pcm:
        """Steps over latents [1, D, F]."""
        if latents is None:
            return np.zeros(0, np.float32)
        return self._state.step(self._net, latents, last)[0, 0].numpy().copy()
