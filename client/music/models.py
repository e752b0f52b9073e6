"""The models of a call: one that codes what is said here, one of the room's talk, and those of
music that is heard.

Music is decoded on a thread of its own: a second of it takes longer than the thread that plays may
wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol

import numpy as np
from earshot.client.audio.endpoints import TALK, Format
from earshot.client.core.clock import ServerClock
from earshot.client.core.playout import Decoder
from earshot.client.core.receiver import Receiver
from earshot.client.core.sender import Encoder, Sender, SendFormat
from earshot.client.local_clock import monotonic_us
from earshot.client.music.mixer import Mixer
from earshot.client.music.speakers import Decodable, Music, WindowDecoder
from earshot.client.music.window_sender import WindowEncoder, WindowSender
from earshot.codec.config import ModelConfig
from earshot.codec.errors import UsageError
from earshot.protocol.messages import WindowModel


class Codec(Protocol):
    """What a call needs of a Model."""

    @property
    def config(self) -> ModelConfig: ...
    @property
    def digest(self) -> str: ...
    def frame_encoder(self, kbps: float = ..., start: Literal["zeros"] = ...) -> Encoder: ...
    def frame_decoder(self, start: Literal["zeros"] = ...) -> Decoder: ...
    def window_encoder(self, kbps: float = ...) -> WindowEncoder: ...
    def window_decoder(self) -> WindowDecoder: ...


def in_windows(model: Codec) -> bool:
    """Whether it codes music in windows, and not speech frame by frame."""
    return model.config.window_length is not None


def format_of(*models: Codec) -> Format:
    """What a source must give that is coded by a model, or a sink take that plays what any of these
    decode: 24 kHz mono unless one of them codes in windows. Raises UsageError if two of these have
    different rates."""
    music = [model.config for model in models if in_windows(model)]
    if len({config.sample_rate for config in music}) > 1:
        named = ", ".join(f"{config.name} {config.sample_rate} Hz" for config in music)
        raise UsageError(f"music of different sample rates cannot be played together ({named}); name one model")
    return Format(music[0].sample_rate, max(config.channels for config in music)) if music else TALK


class CallModels:
    """`mine` codes what this client says; what it hears is decoded by that and by those in
    `also`."""

    def __init__(self, mine: Codec, also: Sequence[Codec] = ()) -> None:
        everything = (mine, *also)
        self.mine = mine
        self.talk = next((model for model in everything if not in_windows(model)), None)
        """Of the room, as far as this client knows; None if it hears nobody."""
        self.music = {model.digest: model for model in everything if in_windows(model)}
        self.format = format_of(*everything)
        self.error: BaseException | None = None
        """Of the thread that decodes."""
        self._pool = ThreadPoolExecutor(1, "earshot music") if self.music else None
        self._closed = False

    def check_rates(self, send_kbps: float, max_kbps: float) -> None:
        """Raises UsageError for rates that no model has."""
        self.mine.config.n_q(send_kbps)
        others = [model for model in (self.talk, *self.music.values()) if model is not None]
        if not any(max_kbps in model.config.bandwidths for model in others):
            self.mine.config.n_q(max_kbps)

    @property
    def spoken(self) -> WindowModel | None:
        """What this client announces, if it codes in windows."""
        return WindowModel.of(self.mine.config, self.mine.digest) if in_windows(self.mine) else None

    def warm_up(self) -> None:
        """The first steps of a model take several times as long as all later ones."""
        if self.talk is not None:
            config = self.talk.config
            encoder = self.talk.frame_encoder(kbps=config.bandwidths[0], start="zeros")
            decoder = self.talk.frame_decoder(start="zeros")
            for _ in range(4):
                decoder.push(encoder.push(np.zeros(config.hop_length, np.float32)))
        for model in self.music.values():
            config = model.config
            silence = np.zeros((config.channels, config.window_length or 0), np.float32)
            model.window_decoder().push(model.window_encoder(config.bandwidths[0]).push(silence))

    def sender(self, sends: Literal["pcm", "codes", "none"], kbps: float, clock: ServerClock) -> Sender | WindowSender:
        if (spoken := self.spoken) is not None:
            return WindowSender(self.mine.window_encoder(kbps), spoken, clock, monotonic_us)
        encoder = self.mine.frame_encoder(kbps=kbps, start="zeros") if sends == "codes" else None
        send_format: SendFormat = "pcm" if encoder is None else "codes"
        return Sender(send_format, encoder=encoder, clock=clock, time_us=monotonic_us)

    def receiver(self, clock: ServerClock) -> tuple[Receiver, Mixer | None]:
        """Of one connection, and what mixes in its music, if there may be some."""
        form, music = self.format, None
        if self.music:
            models = {
                digest: Decodable(WindowModel.of(model.config, digest), model.config.normalize, model.window_decoder)
                for digest, model in self.music.items()
            }
            music = Music(models, form.rate, form.channels, clock=clock, time_us=monotonic_us, submit=self._submit)
        model = self.talk or self.mine
        config = model.config
        receiver = Receiver(
            lambda: model.frame_decoder(start="zeros"),
            config.hop_length,
            config.sample_rate,
            n_codebooks=config.n_codebooks,
            clock=clock,
            time_us=monotonic_us,
            music=music,
        )
        return receiver, Mixer(receiver, music, config.sample_rate, form.rate, form.channels) if music else None

    def close(self) -> None:
        """What waits to be decoded is not."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, work: Callable[[], None]) -> None:
        if self._pool is not None and not self._closed:
            self._pool.submit(work).add_done_callback(self._done)

    def _done(self, future: Future[None]) -> None:
        if not future.cancelled() and future.exception() is not None:
            self.error = future.exception()
