"""Sessions: one direction of one stream, frame by frame, with all of its state.

A session that starts on `zeros` equals the same network padded with zeros and answers from the
first frame. One that starts on `reflect` equals the official offline network: it waits until the
first step holds enough frames (`reflect_frames`) for every layer to reflect, then goes on frame by
frame."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Self

import numpy as np
import safetensors.torch
import torch
from earshot.codec.bitstream import Codes
from earshot.codec.config import ModelConfig, Padding
from earshot.codec.errors import UsageError
from earshot.codec.model.network import Encodec
from earshot.codec.model.seanet import SEANet
from earshot.codec.pcm import Pcm, as_pcm, sanitize
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from torch import Tensor

log = logging.getLogger(__name__)

NATIVE = "native"
"""Key of the state of the native engine in what a session saves. Where another engine goes on, the
caches serve."""


def reflect_frames(config: ModelConfig) -> int:
    """Frames that the first step of a reflecting stream must hold: one more than the widest
    convolution at frame rate looks back (the last of the encoder, the first of the decoder)."""
    return max(config.kernel_size, config.last_kernel_size)


def check_codes(codes: ArrayLike, config: ModelConfig) -> NDArray[np.int64]:
    """[n_q, k] as int64. Raises UsageError for another shape, too many codebooks or codes out of
    range."""
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
    """Where a stream through a SEANet stands: `caches` is None until its first step."""

    padding: Padding
    caches: list[Tensor] | None = None

    def step(self, net: SEANet, x: Tensor, last: bool) -> Tensor:
        y, self.caches = net.step(x, self.caches, self.padding, last)
        return y

    def copy(self) -> StreamState:
        return StreamState(self.padding, [cache.clone() for cache in self.caches] if self.caches else None)


class _Session:
    """What encoder and decoder sessions share: input that waits for a step, and state that moves.

    `unit` is the number of time steps of the input that make a frame.
    """

    kind: str

    def __init__(self, network: Encodec, net: SEANet, start: Padding, unit: int, channels: int) -> None:
        network.config.check_streams()
        if start not in ("zeros", "reflect"):
            raise UsageError(f"start must be 'zeros' or 'reflect', not {start!r}")
        self.start: Padding = start
        self._network = network
        self._net = net
        self._unit = unit
        self._first = unit * (reflect_frames(network.config) if start == "reflect" else 1)
        self._channels = channels
        self.reset()

    def reset(self) -> None:
        """Back to the start of a new stream."""
        self._state = StreamState(self.start)
        self._hold(torch.zeros(1, self._channels, 0))
        self._ended = False

    def copy(self) -> Self:
        """An independent session that goes on from the same point."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._state = self._state.copy()
        twin._pieces = list(self._pieces)
        return twin

    def _hold(self, x: Tensor) -> None:
        """Keeps `x` alone for the next step."""
        self._pieces, self._waiting = [x], x.shape[-1]

    def _held(self) -> Tensor:
        return torch.cat(self._pieces, dim=-1)

    def _push(self, x: Tensor) -> Tensor | None:
        """Takes the whole frames out of what is held and `x`; None where there are none to step
        over yet."""
        if self._ended:
            raise UsageError("this stream has been flushed; call reset() to begin another")
        if x.shape[-1]:
            self._pieces.append(x)
            self._waiting += x.shape[-1]
        if self._waiting < (self._first if self._state.caches is None else self._unit):
            return None  # pieces are joined only when they make a frame: pushes of single samples stay cheap
        held, ready = self._held(), self._waiting - self._waiting % self._unit
        self._hold(held[..., ready:].clone())
        return held[..., :ready]

    def _flush(self) -> Tensor | None:
        """Ends the stream: what is held is for the last step."""
        held, ended = self._held(), self._ended
        self._hold(held[..., :0])
        self._ended = True
        return None if ended or not held.shape[-1] else held

    def _identity(self) -> Tensor:
        """What must be the same where a state is restored, as bytes."""
        shape = {**self._network.config.to_dict(), "name": None, "bandwidths": None}
        text = json.dumps([self.kind, self.start, shape])
        return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)

    def save(self) -> bytes:
        """The whole state, as the bytes of a safetensors file."""
        tensors = {"identity": self._identity(), "held": self._held(), "ended": torch.tensor([self._ended])}
        tensors |= {f"cache.{index}": cache for index, cache in enumerate(self._state.caches or [])} | self._extra()
        return safetensors.torch.save({key: tensor.contiguous() for key, tensor in tensors.items()})

    def _extra(self) -> dict[str, Tensor]:
        """What a session of another engine saves beside the caches."""
        return {}

    def restore(self, data: bytes) -> None:
        """Goes on from what `save` of a session of the same kind, start and model returned. Raises
        UsageError, and changes nothing, if it does not fit."""
        try:
            tensors = safetensors.torch.load(data)
            identity, held, ended = tensors.pop("identity"), tensors.pop("held"), bool(tensors.pop("ended"))
            tensors.pop(NATIVE, None)
            caches = [tensors[f"cache.{index}"] for index in range(len(tensors))]
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise UsageError(f"this is no saved session state: {error}") from error
        if not torch.equal(identity, self._identity()):
            raise UsageError("this state was saved by another kind of session or by one of another model")
        shapes = [cache.shape for cache in self._net.init_caches(1)]
        if (caches and [cache.shape for cache in caches] != shapes) or held.shape[:-1] != (1, self._channels):
            raise UsageError("this saved session state is damaged: its tensors have other shapes")
        self._state = StreamState(self.start, caches or None)
        self._hold(held)
        self._ended = ended


class EncoderSession(_Session):
    """PCM in, codes out. Made by `Model.encoder`."""

    kind = "encoder"

    def __init__(self, network: Encodec, kbps: float, start: Padding = "zeros") -> None:
        super().__init__(network, network.encoder, start, unit=network.config.hop_length, channels=1)
        self.replaced_samples = 0
        self.kbps = kbps

    @property
    def kbps(self) -> float:
        """Codec rate of the frames to come, one of the model's `bandwidths`; may be set between
        frames."""
        return self._kbps

    @kbps.setter
    def kbps(self, kbps: float) -> None:
        self._n_q = self._network.config.n_q(kbps)
        self._kbps = kbps

    @torch.inference_mode()
    def push(self, pcm: ArrayLike) -> Codes:
        """[n] samples in -1..1, any n >= 0 -> int16 [n_q, k], the k whole frames that they
        complete.

        NaN and infinite samples are replaced by silence, counted in `replaced_samples` and
        logged."""
        clean, replaced = sanitize(as_pcm(pcm))
        if replaced:
            self.replaced_samples += replaced
            log.warning("replaced %d samples that were not finite or impossibly loud", replaced)
        return self._codes(self._push(torch.tensor(clean)[None, None]), last=False)

    @torch.inference_mode()
    def flush(self) -> Codes:
        """Ends the stream: the codes of the partial last frame, and of all frames of a `reflect`
        stream that was too short to start. [n_q, 0] if nothing is held."""
        return self._codes(self._flush(), last=True)

    def _codes(self, pcm: Tensor | None, last: bool) -> Codes:
        """The step itself: [1, 1, T] samples -> codes."""
        if pcm is None:
            return np.zeros((self._n_q, 0), np.int16)
        latents = self._state.step(self._net, pcm, last)
        return self._network.quantizer.encode(latents, self._n_q)[0].numpy().astype(np.int16)


class DecoderSession(_Session):
    """Codes in, PCM out. Made by `Model.decoder`."""

    kind = "decoder"

    def __init__(self, network: Encodec, start: Padding = "zeros") -> None:
        super().__init__(network, network.decoder, start, unit=1, channels=network.config.dimension)

    @torch.inference_mode()
    def push(self, codes: ArrayLike) -> Pcm:
        """[n_q, k] -> float32 [hop * k]; n_q may change from call to call. A `reflect` stream gives
        nothing until it holds enough frames, then all of them. Raises UsageError for codes that the
        model does not have."""
        checked = torch.from_numpy(check_codes(codes, self._network.config))
        return self._pcm(self._push(self._network.quantizer.decode(checked[None])), last=False)

    @torch.inference_mode()
    def flush(self) -> Pcm:
        """Ends the stream: the samples of a `reflect` stream that was too short to start, else
        none."""
        return self._pcm(self._flush(), last=True)

    def _pcm(self, latents: Tensor | None, last: bool) -> Pcm:
        """The step itself: [1, D, F] latents -> samples."""
        if latents is None:
            return np.zeros(0, np.float32)
        return self._state.step(self._net, latents, last)[0, 0].numpy().copy()
