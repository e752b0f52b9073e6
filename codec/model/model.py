"""What `codec.load` returns: a codec with its weights, for whole signals and for streams."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from earshot.codec.bitstream import Codes, Window
from earshot.codec.config import ModelConfig, Padding
from earshot.codec.model.network import Encodec
from earshot.codec.model.streaming import DecoderSession, EncoderSession, check_codes
from earshot.codec.model.window_streams import WindowDecoder, WindowEncoder
from earshot.codec.model.windows import decode_windows, encode_windows
from earshot.codec.pcm import Pcm, as_pcm, sanitize


class SessionFactory:
    """Makes sessions whose steps run the network's own layers."""

    def __init__(self, network: Encodec) -> None:
        self.network = network

    def encoder(self, kbps: float, start: Padding) -> EncoderSession:
        return EncoderSession(self.network, kbps, start)

    def decoder(self, start: Padding) -> DecoderSession:
        return DecoderSession(self.network, start)


class Model:
    """Shared, frozen weights. All state that changes lives in the sessions that it makes."""

    def __init__(self, network: Encodec) -> None:
        self.network = network.eval().requires_grad_(False)
        self.config: ModelConfig = network.config
        self.sessions: SessionFactory = SessionFactory(network)
        """Makes the sessions; `codec.load` replaces it by a faster one."""
        self.official = False
        """Whether the weights came in a file of the `encodec` package or of transformers."""
        self.file: Path | None = None
        """The file of the weights, if they came in Earshot's own format."""

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.config.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.config.hop_length

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.config.frame_rate

    @property
    def bandwidths(self) -> tuple[float, ...]:
        """Codec rates in kbps that an encoder can be asked for."""
        return self.config.bandwidths

    @cached_property
    def digest(self) -> str:
        """Identifies the codes; peers compare it before they exchange any."""
        return self.network.digest()

    @property
    def latency_s(self) -> float:
        """Seconds that coding delays a stream by: a frame, or a window if the model codes in
        windows."""
        return self.config.latency_s

    def encoder(self, kbps: float = 6.0, start: Padding = "zeros") -> EncoderSession | WindowEncoder:
        """Starts a new stream from PCM to codes, or to windows if the model codes in windows
        (`start` then has no effect: each window is padded by itself). Raises UsageError for a rate
        that is not in `bandwidths`, and for a model that codes whole signals only: one without
        windows that is stereo or not causal."""
        return self.window_encoder(kbps) if self.config.window_length is not None else self.frame_encoder(kbps, start)

    def decoder(self, start: Padding = "zeros") -> DecoderSession | WindowDecoder:
        """Starts a new stream from codes, or from windows, to PCM. Raises UsageError for the models
        for which `encoder` does."""
        return self.window_decoder() if self.config.window_length is not None else self.frame_decoder(start)

    def frame_encoder(self, kbps: float = 6.0, start: Padding = "zeros") -> EncoderSession:
        """Returns an encoder of frames. Also raises UsageError for a model that codes in
        windows."""
        return self.sessions.encoder(kbps, start)

    def frame_decoder(self, start: Padding = "zeros") -> DecoderSession:
        """Returns a decoder of frames. Also raises UsageError for a model that codes in windows."""
        return self.sessions.decoder(start)

    def window_encoder(self, kbps: float = 6.0) -> WindowEncoder:
        """Returns an encoder of windows. Raises UsageError for a model without windows."""
        return WindowEncoder(self.network, kbps)

    def window_decoder(self) -> WindowDecoder:
        """Returns a decoder of windows. Raises UsageError for a model without windows."""
        return WindowDecoder(self.network)

    def check_codes(self, codes: ArrayLike) -> NDArray[np.int64]:
        """Returns codes [n_q, k] as int64. Raises UsageError for another shape, and for codes that
        the model does not have."""
        return check_codes(codes, self.config)

    def encode(self, pcm: ArrayLike, kbps: float = 6.0) -> Codes:
        """Encodes a whole signal [n] to codes [n_q, ceil(n / hop)], padded as the model was
        trained. Raises UsageError for a model that is stereo or codes in windows."""
        self.config.check_plain()
        clean, _ = sanitize(as_pcm(pcm))
        n_q = self.config.n_q(kbps)
        if not clean.size:
            return np.zeros((n_q, 0), np.int16)
        return self.network.encode(torch.tensor(clean)[None, None], n_q)[0].numpy().astype(np.int16)

    def decode(self, codes: ArrayLike) -> Pcm:
        """Decodes codes [n_q, F] to a whole signal [F * hop]. Raises UsageError for the models for
        which `encode` does."""
        self.config.check_plain()
        checked = self.check_codes(codes)
        if not checked.shape[1]:
            return np.zeros(0, np.float32)
        return self.network.decode(torch.from_numpy(checked)[None])[0, 0].numpy()

    def encode_windows(self, pcm: ArrayLike, kbps: float = 6.0) -> list[Window]:
        """Encodes a whole signal [channels, n] to windows of codes with their scales. A model that
        codes without windows returns one window of everything."""
        return list(encode_windows(self.network, pcm, kbps))

    def decode_windows(self, windows: Sequence[Window]) -> Pcm:
        """Decodes windows to a whole signal [channels, n], up to the end of the last frame. Raises
        UsageError for windows that do not belong to this model."""
        return decode_windows(self.network, windows)
