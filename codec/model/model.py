"""What `codec.load` returns: a codec with its weights, ready for whole signals and for streams."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from earshot.codec.bitstream import Codes, Window
from earshot.codec.config import ModelConfig, Padding
from earshot.codec.model.network import Encodec
from earshot.codec.model.streaming import DecoderSession, EncoderSession, check_codes
from earshot.codec.model.window_streams import WindowDecoder, WindowEncoder
from earshot.codec.model.windows import decode_windows, encode_windows
from earshot.codec.pcm import Pcm, as_pcm, sanitize
from numpy.typing import ArrayLike, NDArray


class SessionFactory:
    """Makes sessions that step in torch."""

    def __init__(self, network: Encodec) -> None:
        self.network = network

    def encoder(self, kbps: float, start: Padding) -> EncoderSession:
        return EncoderSession(self.network, kbps, start)

    def decoder(self, start: Padding) -> DecoderSession:
        return DecoderSession(self.network, start)


class Model:
    """Shared, frozen weights. Everything that moves lives in the sessions it makes."""

    def __init__(self, network: Encodec) -> None:
        self.network = network.eval().requires_grad_(False)
        self.config: ModelConfig = network.config
        self.sessions: SessionFactory = SessionFactory(network)
        """What makes the sessions; `codec.load` puts a faster maker here."""
        self.official = False
        """Whether the weights came in a file of the `encodec` package or of transformers."""

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        return self.config.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples a frame."""
        return self.config.hop_length

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.config.frame_rate

    @property
    def bandwidths(self) -> tuple[float, ...]:
        """Codec rates in kbps that an encoder can be asked for."""
        return self.config.bandwidths

    @cached_property
    def digest(self) -> str:
        """Names the codes; peers compare it before they exchange any."""
        return self.network.digest()

    @property
    def latency_s(self) -> float:
        """What coding delays a stream by, in seconds: a frame, or a window for a model that codes
        in windows."""
        return self.config.latency_s

    def encoder(self, kbps: float = 6.0, start: Padding = "zeros") -> EncoderSession | WindowEncoder:
        """A new stream of PCM to codes, or to windows for a model that codes in windows (`start`
        then says nothing: each is padded by itself). Raises UsageError for a rate that is not in
        `bandwidths`, and for a model that codes whole signals only: one that is not causal or is
        stereo, without windows."""
        return self.window_encoder(kbps) if self.config.window_length is not None else self.frame_encoder(kbps, start)

    def decoder(self, start: Padding = "zeros") -> DecoderSession | WindowDecoder:
        """A new stream of codes, or of windows, to PCM. Raises UsageError for the models for which
        `encoder` does."""
        return self.window_decoder() if self.config.window_length is not None else self.frame_decoder(start)

    def frame_encoder(self, kbps: float = 6.0, start: Padding = "zeros") -> EncoderSession:
        """As `encoder`, for those who need frames: raises UsageError for a model that codes in
        windows too."""
        return self.sessions.encoder(kbps, start)

    def frame_decoder(self, start: Padding = "zeros") -> DecoderSession:
        """As `decoder`, for those who need frames: raises UsageError for a model that codes in
        windows too."""
        return self.sessions.decoder(start)

    def window_encoder(self, kbps: float = 6.0) -> WindowEncoder:
        """As `encoder`, for those who need windows: raises UsageError for a model that codes
        without."""
        return WindowEncoder(self.network, kbps)

    def window_decoder(self) -> WindowDecoder:
        """As `decoder`, for those who need windows: raises UsageError for a model that codes
        without."""
        return WindowDecoder(self.network)

    def check_codes(self, codes: ArrayLike) -> NDArray[np.int64]:
        """[n_q, k] as int64. Raises UsageError for another shape or codes that the model does not
        have."""
        return check_codes(codes, self.config)

    def encode(self, pcm: ArrayLike, kbps: float = 6.0) -> Codes:
        """A whole signal [n] -> codes [n_q, ceil(n / hop)], padded as the model was trained. Raises
        UsageError for a model that is stereo or codes in windows."""
        self.config.check_plain()
        clean, _ = sanitize(as_pcm(pcm))
        n_q = self.config.n_q(kbps)
        if not clean.size:
            return np.zeros((n_q, 0), np.int16)
        return self.network.encode(torch.tensor(clean)[None, None], n_q)[0].numpy().astype(np.int16)

    def decode(self, codes: ArrayLike) -> Pcm:
        """Codes [n_q, F] -> a whole signal [F * hop]. Raises UsageError for the models for which
        `encode` does."""
        self.config.check_plain()
        checked = self.check_codes(codes)
        if not checked.shape[1]:
            return np.zeros(0, np.float32)
        return self.network.decode(torch.from_numpy(checked)[None])[0, 0].numpy()

    def encode_windows(self, pcm: ArrayLike, kbps: float = 6.0) -> list[Window]:
        """A whole signal [channels, n] -> windows of codes with their scales; one window of
        everything for a model that codes without windows."""
        return list(encode_windows(self.network, pcm, kbps))

    def decode_windows(self, windows: Sequence[Window]) -> Pcm:
        """Windows -> a whole signal [channels, n], up to the end of the last frame. Raises
        UsageError for windows that do not belong to this model."""
        return decode_windows(self.network, windows)
