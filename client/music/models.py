"""The models of a call with music, which is sent or heard in windows of a second.

Music is decoded on a thread of its own, because a second of it takes longer than the thread that
plays may wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol

import numpy as np

from earshot.client.audio.endpoints import TALK, Format
from earshot.client.core.clock import ServerClock
from earshot.client.core.receiver import Receiver
from earshot.client.core.sender import MediaSender
from earshot.client.local_clock import monotonic_us
from earshot.client.models import CallModels, Codec
from earshot.client.music.mixer import Mixer
from earshot.client.music.speakers import Decodable, Music, WindowDecoder
from earshot.client.music.window_sender import WindowEncoder, WindowSender
from earshot.client.net.connection import Mix
from earshot.codec.errors import UsageError
from earshot.protocol.messages import WindowModel


class WindowCodec(Codec, Protocol):
    """What a call needs of a Model that may code in windows."""

    def window_encoder(self, kbps: float = ...) -> WindowEncoder: ...
    def window_decoder(self) -> WindowDecoder: ...


def in_windows(model: Codec) -> bool:
    """Returns whether a model codes music in windows, and not speech frame by frame."""
    return model.config.window_length is not None


def format_of(*models: Codec) -> Format:
    """Returns what a source gives that one of these models codes, or what a sink takes that plays
    what they decode.

    It is 24 kHz mono unless a model codes in windows. Raises UsageError if two models of music have
    different rates."""
    music = [model.config for model in models if in_windows(model)]
    if len({config.sample_rate for config in music}) > 1:
        named = ", ".join(f"{config.name} {config.sample_rate} Hz" for config in music)
        raise UsageError(f"music of different sample rates cannot be played together ({named}); name one model")
    return Format(music[0].sample_rate, max(config.channels for config in music)) if music else TALK


class MusicModels(CallModels):
    """Models of which one or more code in windows. `mine` codes what this client says; what it
    hears is decoded by that model and by those in `also`."""

    def __init__(self, mine: WindowCodec, also: Sequence[WindowCodec] = ()) -> None:
        super().__init__(mine)
        everything = (mine, *also)
        self._mine = mine
        self._music = {model.digest: model for model in everything if in_windows(model)}
        self.talk = next((model for model in everything if not in_windows(model)), None)
        self.windows = self._music
        self.spoken = WindowModel.of(mine.config, mine.digest) if in_windows(mine) else None
        self.spoken_format, self.heard_format = format_of(mine), format_of(*everything)
        self._pool = ThreadPoolExecutor(1, "earshot music")
        self._closed = False

    def warm_up(self) -> None:
        """Runs the first steps of the models of talk and of music."""
        super().warm_up()
        for model in self._music.values():
            config = model.config
            silence = np.zeros((config.channels, config.window_length or 0), np.float32)
            model.window_decoder().push(model.window_encoder(config.bandwidths[0]).push(silence))

    def sender(
        self,
        sends: Literal["pcm", "codes", "none"],
        kbps: float,
        clock: ServerClock,
        frames: int = 1,
        quiet: bool = False,
        trace_every_s: float = 0.0,
    ) -> MediaSender:
        """Returns a sender for a new connection, of windows if this client plays music."""
        if self.spoken is None:
            return super().sender(sends, kbps, clock, frames, quiet, trace_every_s)
        return WindowSender(self._mine.window_encoder(kbps), self.spoken, clock, monotonic_us)

    def receiver(self, clock: ServerClock) -> tuple[Receiver, Mix]:
        """Returns a receiver for a new connection, and the mixer of talk and music."""
        form = self.heard_format
        models = {
            digest: Decodable(WindowModel.of(model.config, digest), model.config.normalize, model.window_decoder)
            for digest, model in self._music.items()
        }
        music = Music(models, form.rate, form.channels, clock=clock, time_us=monotonic_us, submit=self._submit)
        receiver = self._receiver(clock, music)
        talk_rate = (self.talk or self.mine).config.sample_rate
        return receiver, Mixer(receiver, music, talk_rate, form.rate, form.channels)

    def close(self) -> None:
        """Ends the thread that decodes. What waits for it is dropped."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, work: Callable[[], None]) -> None:
        if not self._closed:
            self._pool.submit(work).add_done_callback(self._done)

    def _done(self, future: Future[None]) -> None:
        if not future.cancelled() and future.exception() is not None:
            self.error = future.exception()
