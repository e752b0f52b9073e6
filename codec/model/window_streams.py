"""Sessions of models that code in windows, as the 48 kHz stereo model does: PCM in, windows out,
and back.

What an encoder gives is what `encode_windows` gives of the same samples, what a decoder gives is
what `decode_windows` gives, to the last bit, however the stream was cut. A window is coded when its
last sample is there, so a stream is late by one window; a decoder gives what no later window
touches, and holds the few samples where the next one fades in."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Self

import numpy as np
import safetensors.torch
import torch
from earshot.codec.bitstream import Window
from earshot.codec.errors import UsageError
from earshot.codec.model.network import Encodec
from earshot.codec.model.windows import as_channels, check_window, decode_window, encode_window, triangle
from earshot.codec.pcm import Pcm, sanitize
from numpy.typing import ArrayLike
from safetensors import SafetensorError
from torch import Tensor

log = logging.getLogger(__name__)


class _WindowSession:
    """What both directions share: the lengths of the model's windows, and a state that moves."""

    kind: str

    def __init__(self, network: Encodec) -> None:
        config = network.config
        if config.window_length is None or config.window_stride is None:
            raise UsageError(f"{config.name} does not code in windows")
        self._network, self._config = network, config
        self._length, self._stride = config.window_length, config.window_stride
        self.reset()

    @property
    def latency_s(self) -> float:
        """What the windows delay a stream by, from a sample to the codes that hold it: one
        window."""
        return self._config.latency_s

    def reset(self) -> None:
        """Back to the start of a new stream."""
        self._ended = False

    def copy(self) -> Self:
        """An independent session that goes on from the same point."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.restore(self.save())
        return twin

    def save(self) -> bytes:
        """The whole state, as the bytes of a safetensors file."""
        tensors = {"identity": self._identity(), "ended": torch.tensor([self._ended])} | self._state()
        return safetensors.torch.save({key: tensor.contiguous() for key, tensor in tensors.items()})

    def restore(self, data: bytes) -> None:
        """Goes on where `save` was called. Raises UsageError for the state of another kind of
        session, of another model, or a damaged one."""
        try:
            tensors = safetensors.torch.load(data)
            identity, ended = tensors.pop("identity"), bool(tensors.pop("ended"))
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise UsageError(f"this is no saved session state: {error}") from error
        if not torch.equal(identity, self._identity()):
            raise UsageError("this state was saved by another kind of session or by one of another model")
        expected = self._state()
        fits = tensors.keys() == expected.keys() and all(
            tensor.dtype == expected[key].dtype and tensor.shape[:-1] == expected[key].shape[:-1]
            for key, tensor in tensors.items()
        )
        if not fits or not self._take_state(tensors):
            raise UsageError("this saved session state is damaged: its tensors have other shapes")
        self._ended = ended

    def _identity(self) -> Tensor:
        """What must be the same where a state is restored, as bytes."""
        shape = {**self._config.to_dict(), "name": None, "bandwidths": None}
        return torch.frombuffer(bytearray(json.dumps([self.kind, shape]).encode()), dtype=torch.uint8)

    def _state(self) -> dict[str, Tensor]:
        """The state but for `ended`; only last dimensions may differ from one moment to another."""
        raise NotImplementedError

    def _take_state(self, tensors: dict[str, Tensor]) -> bool:
        """The reverse; False, and nothing is taken, for lengths that there cannot be."""
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._ended:
            raise UsageError("this stream has been flushed; call reset() to begin another")


class WindowEncoder(_WindowSession):
    """PCM in, windows out. Made by `Model.encoder`. Never holds more than a window."""

    kind = "window encoder"

    def __init__(self, network: Encodec, kbps: float) -> None:
        super().__init__(network)
        self.replaced_samples = 0
        self.kbps = kbps

    @property
    def kbps(self) -> float:
        """Codec rate of the windows to come, one of the model's `bandwidths`; may be set between
        pushes."""
        return self._kbps

    @kbps.setter
    def kbps(self, kbps: float) -> None:
        self._n_q = self._config.n_q(kbps)
        self._kbps = kbps

    def reset(self) -> None:
        """Back to the start of a new stream."""
        super().reset()
        self._held: Pcm = np.zeros((self._config.channels, self._length), np.float32)
        self._filled = 0

    def push(self, pcm: ArrayLike) -> list[Window]:
        """[channels, n] samples in -1..1 (or [n], the same in all channels), any n >= 0 -> the
        windows that they complete, of ceil(window / hop) frames each.

        NaN and infinite samples are replaced by silence, counted in `replaced_samples` and
        logged."""
        self._check_open()
        samples = np.asarray(pcm, np.float32)
        if samples.ndim == 1:
            samples = np.broadcast_to(samples, (self._config.channels, samples.size))
        clean, replaced = sanitize(as_channels(samples, self._config.channels))
        if replaced:
            self.replaced_samples += replaced
            log.warning("replaced %d samples that were not finite or impossibly loud", replaced)
        windows = []
        at = 0
        while at < clean.shape[1]:
            part = clean[:, at : at + self._length - self._filled]
            self._held[:, self._filled : self._filled + part.shape[1]] = part
            self._filled += part.shape[1]
            at += part.shape[1]
            if self._filled == self._length:
                windows.append(self._code())
        return windows

    def flush(self) -> list[Window]:
        """Ends the stream: what is held, as one window, or two where it reaches beyond the start of
        the next."""
        windows = []
        while self._filled and not self._ended:
            windows.append(self._code())
        self._ended = True
        return windows

    def _code(self) -> Window:
        """What is held as a window; what the next one covers too stays."""
        window = encode_window(self._network, torch.tensor(self._held[None, :, : self._filled]), self._n_q)
        rest = self._held[:, self._stride : self._filled].copy()
        self._filled = rest.shape[1]
        self._held[:, : self._filled] = rest
        return window

    def _state(self) -> dict[str, Tensor]:
        return {"held": torch.tensor(self._held[:, : self._filled])}

    def _take_state(self, tensors: dict[str, Tensor]) -> bool:
        held = tensors["held"].numpy()
        if held.shape[1] >= self._length:
            return False
        self._held = np.zeros((self._config.channels, self._length), np.float32)
        self._filled = held.shape[1]
        self._held[:, : self._filled] = held
        return True


class WindowDecoder(_WindowSession):
    """Windows in, PCM out. Made by `Model.decoder`."""

    kind = "window decoder"

    def reset(self) -> None:
        """Back to the start of a new stream."""
        super().reset()
        self._mixed, self._weights = torch.zeros(self._config.channels, 0), torch.zeros(1, 0)
        self._first = self._before = 0

    def push(self, windows: Sequence[Window]) -> Pcm:
        """Windows, each the one after the last -> float32 [channels, m]: the samples that no later
        window touches, one stride for each window. The number of codebooks may change from window
        to window.

        Raises UsageError for windows that do not belong to this model, and for one after the last
        of a stream, which is the first that is shorter than a stride. Nothing is taken then."""
        self._check_open()
        before, codes = self._before, []
        for window in windows:
            codes.append(check_window(window, before or None, self._config))
            before = codes[-1].shape[1]
        parts = [np.zeros((self._config.channels, 0), np.float32)]
        for window, frames in zip(windows, codes, strict=True):
            self._add(decode_window(self._network, frames, window.scale))
            self._before = frames.shape[1]
            if self._before * self._config.hop_length >= self._stride:
                parts.append(self._take(self._stride))
        return np.concatenate(parts, axis=1)

    def flush(self) -> Pcm:
        """Ends the stream: the samples that were held for a window to come, up to the end of the
        last frame."""
        rest = np.zeros((self._config.channels, 0), np.float32) if self._ended else self._take(self._mixed.shape[1])
        self._ended = True
        return rest

    def _add(self, pcm: Tensor) -> None:
        """[channels, T], the next window, over what is held."""
        length = pcm.shape[1]
        self._first = self._first or length
        fade = triangle(self._first)[:length]
        missing = max(0, length - self._mixed.shape[1])
        self._mixed = torch.nn.functional.pad(self._mixed, (0, missing))
        self._weights = torch.nn.functional.pad(self._weights, (0, missing))
        self._mixed[:, :length] += fade * pcm
        self._weights[:, :length] += fade

    def _take(self, count: int) -> Pcm:
        pcm = self._mixed[:, :count] / self._weights[:, :count]
        self._mixed, self._weights = self._mixed[:, count:].clone(), self._weights[:, count:].clone()
        return pcm.numpy()

    def _state(self) -> dict[str, Tensor]:
        lengths = torch.tensor([self._first, self._before])
        return {"mixed": self._mixed, "weights": self._weights, "lengths": lengths}

    def _take_state(self, tensors: dict[str, Tensor]) -> bool:
        mixed, weights = tensors["mixed"], tensors["weights"]
        if mixed.shape[1] != weights.shape[1] or mixed.shape[1] > 2 * self._length or tensors["lengths"].numel() != 2:
            return False
        first, before = (int(value) for value in tensors["lengths"])
        longest = -(-self._length // self._config.hop_length) * self._config.hop_length
        if not 0 <= first <= longest or not 0 <= before * self._config.hop_length <= longest:
            return False
        self._mixed, self._weights, self._first, self._before = mixed.clone(), weights.clone(), first, before
        return True
