"""Sessions of models that code in windows, as the 48 kHz stereo model does.

An encoder makes the same windows as `encode_windows` makes of the whole signal, and a decoder makes
the same samples as `decode_windows`, to the last bit, however the stream was cut. A window is coded
when its last sample is there, so a stream is late by one window. A decoder returns the samples that
no later window touches, and holds the few samples where the next window fades in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from earshot.codec.bitstream import Window
from earshot.codec.errors import UsageError
from earshot.codec.model.network import Encodec
from earshot.codec.model.session import Encoding, Session
from earshot.codec.model.windows import as_channels, check_window, decode_window, encode_window, triangle
from earshot.codec.pcm import Pcm


class _WindowSession(Session):
    """What both directions share: the lengths of the model's windows."""

    def __init__(self, network: Encodec) -> None:
        config = network.config
        if config.window_length is None or config.window_stride is None:
            raise UsageError(f"{config.name} does not code in windows")
        super().__init__(network)
        self._config = config
        self._length, self._stride = config.window_length, config.window_stride
        self.reset()

    @property
    def latency_s(self) -> float:
        """Seconds that the windows delay a stream by, from a sample to the codes that hold it: one
        window."""
        return self._config.latency_s

    def reset(self) -> None:
        """Goes back to the start of a new stream."""
        self._ended = False

    def copy(self) -> Self:
        """Returns an independent session that continues from the same point."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.restore(self.save())
        return twin

    def _fits(self, tensors: dict[str, Tensor]) -> bool:
        """Returns whether these are tensors of this session's state. Their last dimensions may
        differ, as they do from one moment to another."""
        expected = self._state_tensors()
        return tensors.keys() == expected.keys() and all(
            tensor.dtype == expected[key].dtype and tensor.shape[:-1] == expected[key].shape[:-1]
            for key, tensor in tensors.items()
        )


class WindowEncoder(_WindowSession, Encoding):
    """Turns PCM into windows. `Model.encoder` makes it. It never holds more than a window."""

    kind = "window encoder"

    def __init__(self, network: Encodec, kbps: float) -> None:
        super().__init__(network)
        self.replaced_samples = 0
        self.kbps = kbps

    def reset(self) -> None:
        """Goes back to the start of a new stream."""
        super().reset()
        self._held: Pcm = np.zeros((self._config.channels, self._length), np.float32)
        self._filled = 0

    def push(self, pcm: ArrayLike) -> list[Window]:
        """Takes samples [channels, n] in -1..1 (or [n], the same in all channels), any n >= 0.
        Returns the windows that they complete, of ceil(window / hop) frames each.

        NaN and infinite samples are replaced by silence, counted in `replaced_samples` and
        logged."""
        self._check_open()
        samples = np.asarray(pcm, np.float32)
        if samples.ndim == 1:
            samples = np.broadcast_to(samples, (self._config.channels, samples.size))
        clean = self._sanitized(as_channels(samples, self._config.channels))
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
        """Ends the stream. Returns what is held as one window, or as two where it reaches beyond
        the start of the next."""
        windows = []
        while self._filled and not self._ended:
            windows.append(self._code())
        self._ended = True
        return windows

    def _code(self) -> Window:
        """Codes what is held as a window, and keeps the part that the next window covers too."""
        window = encode_window(self._network, torch.tensor(self._held[None, :, : self._filled]), self._n_q)
        rest = self._held[:, self._stride : self._filled].copy()
        self._filled = rest.shape[1]
        self._held[:, : self._filled] = rest
        return window

    def _state_tensors(self) -> dict[str, Tensor]:
        return {"held": torch.tensor(self._held[:, : self._filled])}

    def _take_tensors(self, tensors: dict[str, Tensor]) -> bool:
        if not self._fits(tensors) or tensors["held"].shape[1] >= self._length:
            return False
        held = tensors["held"].numpy()
        self._held = np.zeros((self._config.channels, self._length), np.float32)
        self._filled = held.shape[1]
        self._held[:, : self._filled] = held
        return True


class WindowDecoder(_WindowSession):
    """Turns windows into PCM. `Model.decoder` makes it."""

    kind = "window decoder"

    def reset(self) -> None:
        """Goes back to the start of a new stream."""
        super().reset()
        self._mixed, self._weights = torch.zeros(self._config.channels, 0), torch.zeros(1, 0)
        self._first = self._before = 0

    def push(self, windows: Sequence[Window]) -> Pcm:
        """Takes the next windows of the stream; their number of codebooks may differ. Returns
        float32 [channels, m]: the samples that no later window touches, one stride for each window.

        Raises UsageError for windows that do not belong to this model. A window that is shorter
        than a stride is the last of its stream: a window after it raises UsageError too. A call
        that raises has taken nothing."""
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
        """Ends the stream. Returns the samples that were held for the next window, up to the end of
        the last frame."""
        rest = np.zeros((self._config.channels, 0), np.float32) if self._ended else self._take(self._mixed.shape[1])
        self._ended = True
        return rest

    def _add(self, pcm: Tensor) -> None:
        """Adds the next window [channels, T] to what is held."""
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

    def _state_tensors(self) -> dict[str, Tensor]:
        lengths = torch.tensor([self._first, self._before])
        return {"mixed": self._mixed, "weights": self._weights, "lengths": lengths}

    def _take_tensors(self, tensors: dict[str, Tensor]) -> bool:
        if not self._fits(tensors):
            return False
        mixed, weights = tensors["mixed"], tensors["weights"]
        if mixed.shape[1] != weights.shape[1] or mixed.shape[1] > 2 * self._length or tensors["lengths"].numel() != 2:
            return False
        first, before = (int(value) for value in tensors["lengths"])
        longest = -(-self._length // self._config.hop_length) * self._config.hop_length
        if not 0 <= first <= longest or not 0 <= before * self._config.hop_length <= longest:
            return False
        self._mixed, self._weights, self._first, self._before = mixed.clone(), weights.clone(), first, before
        return True
