"""The models of a call. A call among people who talk needs one, which codes what is said and
decodes what is heard. client/music/models.py has those of a call with music."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np

from earshot.client.audio.endpoints import TALK
from earshot.client.core.clock import ServerClock
from earshot.client.core.playout import Decoder
from earshot.client.core.receiver import Receiver, WindowSpeakers
from earshot.client.core.sender import Encoder, MediaSender, Sender
from earshot.client.local_clock import monotonic_us
from earshot.client.net.connection import Mix
from earshot.codec.config import ModelConfig
from earshot.protocol.messages import WindowModel

MEASURED_FRAMES = 12
EASY_SHARE = 0.25
"""Part of a frame's time that encoding it may take if a client is to encode by itself."""


class Codec(Protocol):
    """What a call needs of a Model that codes speech frame by frame."""

    @property
    def config(self) -> ModelConfig: ...
    @property
    def digest(self) -> str: ...
    def frame_encoder(self, kbps: float = ..., start: Literal["zeros"] = ...) -> Encoder: ...
    def frame_decoder(self, start: Literal["zeros"] = ...) -> Decoder: ...


class CallModels:
    """Models that code what this client says and decode what it hears."""

    def __init__(self, mine: Codec) -> None:
        self.mine = mine
        """Codes what this client says."""
        self.talk: Codec | None = mine
        """The room's model, as far as this client knows. None if it hears nobody who talks."""
        self.windows: Mapping[str, Codec] = {}
        """Models of music by digest, for peers that send windows of these."""
        self.spoken: WindowModel | None = None
        """What this client announces if it sends windows."""
        self.spoken_format = TALK
        """What the source must give."""
        self.heard_format = TALK
        """What the sink must take."""
        self.error: BaseException | None = None
        """An error on a thread that decodes."""

    def check_rates(self, send_kbps: float, max_kbps: float) -> None:
        """Raises UsageError for rates that no model has."""
        self.mine.config.n_q(send_kbps)
        others = [model for model in (self.talk, *self.windows.values()) if model is not None]
        if not any(max_kbps in model.config.bandwidths for model in others):
            self.mine.config.n_q(max_kbps)

    def warm_up(self) -> None:
        """Runs the first steps of the models, which take several times as long as all later
        ones."""
        if self.talk is not None:
            config = self.talk.config
            encoder = self.talk.frame_encoder(kbps=config.bandwidths[0], start="zeros")
            decoder = self.talk.frame_decoder(start="zeros")
            for _ in range(4):
                decoder.push(encoder.push(np.zeros(config.hop_length, np.float32)))

    def encodes_easily(self) -> bool:
        """Measures whether this machine encodes speech in a small part of the time that it lasts.
        The quickest of several frames counts, so that a busy moment does not decide."""
        config = self.mine.config
        encoder, frame = self.mine.frame_encoder(kbps=max(config.bandwidths)), np.zeros(config.hop_length, np.float32)
        times = []
        for _ in range(MEASURED_FRAMES):
            began_us = monotonic_us()
            encoder.push(frame)
            times.append(monotonic_us() - began_us)
        return min(times) < EASY_SHARE * config.latency_s * 1e6

    def sender(
        self,
        sends: Literal["pcm", "codes", "none"],
        kbps: float,
        clock: ServerClock,
        frames: int = 1,
        quiet: bool = False,
        trace_every_s: float = 0.0,
    ) -> MediaSender:
        """Returns a sender for a new connection, of packets of `frames` frames. If it is `quiet`,
        silence is not sent."""
        encoder = self.mine.frame_encoder(kbps=kbps, start="zeros") if sends == "codes" else None
        return Sender(
            "pcm" if encoder is None else "codes",
            encoder=encoder,
            frames_per_packet=frames,
            clock=clock,
            time_us=monotonic_us,
            quiet=quiet,
            trace_every_us=round(trace_every_s * 1e6),
        )

    def receiver(self, clock: ServerClock) -> tuple[Receiver, Mix]:
        """Returns a receiver for a new connection, and what the loudspeaker pulls from."""
        receiver = self._receiver(clock, None)
        return receiver, receiver

    def close(self) -> None:
        """Ends the threads of the models."""

    def _receiver(self, clock: ServerClock, windows: WindowSpeakers | None) -> Receiver:
        model = self.talk or self.mine
        config = model.config
        return Receiver(
            lambda: model.frame_decoder(start="zeros"),
            config.hop_length,
            config.sample_rate,
            n_codebooks=config.n_codebooks,
            clock=clock,
            time_us=monotonic_us,
            windows=windows,
        )
