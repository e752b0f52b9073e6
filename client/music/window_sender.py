"""What a client does with music on its way out: samples go in, and a message for each window comes
out. Time is an argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from earshot.client.core.clock import ServerClock
from earshot.client.core.level import rms
from earshot.client.core.timeline import SendTimeline, wrapped_timestamp
from earshot.client.core.traffic import Traffic
from earshot.codec.bitstream import BITS, Window, pack
from earshot.codec.pcm import Pcm
from earshot.protocol.messages import WindowModel
from earshot.protocol.packet import Packet, encode_codes_up


class WindowEncoder(Protocol):
    """What the sender needs of the codec's WindowEncoder."""

    kbps: float

    def push(self, pcm: Pcm, /) -> list[Window]: ...
    def flush(self) -> list[Window]: ...
    def reset(self) -> None: ...


class WindowSender:
    """Does what `Sender` does, for a model that codes in windows.

    A window is sent when its last sample has come. Where sound is lost, or the speaker is muted,
    the part of the window that there is is sent, and a new window begins after the gap."""

    def __init__(
        self,
        encoder: WindowEncoder,
        model: WindowModel,
        clock: ServerClock | None = None,
        time_us: Callable[[], int] | None = None,
    ) -> None:
        self.traffic = Traffic(model.sample_rate)
        self.muted = False
        self.kbps: float | None = encoder.kbps
        """Codec rate of the windows to come."""
        self.frames_per_packet = model.window_frames
        self.samples_lost = 0
        self.frames_muted = self.frames_silent = 0
        self.level = 0.0
        """Root mean square of the last block, for a meter, also while muted."""
        self._encoder, self._model = encoder, model
        self._timeline = SendTimeline(model.sample_rate, clock, time_us)
        self._held = 0
        """Samples that have come and are in no window yet. Where windows overlap, those that the
        next window begins with are among them."""

    def push(self, pcm: Pcm, captured_us: int, now_us: int) -> list[bytes]:
        """Takes [channels, n] or [n] samples, any n, the first of which was captured at
        `captured_us`, and returns the messages to send now."""
        samples = pcm.shape[-1]
        if not samples:
            return []
        self.level = rms(np.nan_to_num(pcm, posinf=0, neginf=0))
        messages: list[bytes] = []
        lost = self._timeline.lost(captured_us)
        if lost:
            messages = self._end(now_us)
            self.samples_lost += lost
            self._timeline.skip(lost)
        self._timeline.follow(captured_us)
        if self.muted:
            messages += self._end(now_us)  # before time moves on, because capture times are counted back from it
        self._timeline.advance(samples)
        if self.muted:
            self._timeline.position += samples
            self.frames_muted += samples // self._model.hop_length
            return messages
        if self.kbps is not None and self.kbps != self._encoder.kbps:
            self._encoder.kbps = self.kbps
        self._held += samples
        return messages + self._send(self._encoder.push(pcm), now_us)

    def flush(self, now_us: int) -> list[bytes]:
        """Ends a talk and returns the part of a window that there is."""
        return self._end(now_us)

    def _end(self, now_us: int) -> list[bytes]:
        if not self._held:
            return []
        end = self._timeline.position + self._held
        messages = self._send(self._encoder.flush(), now_us)
        self._encoder.reset()
        self._timeline.position, self._held = end, 0  # the last window is shorter than those that `_send` counts
        return messages

    def _send(self, windows: list[Window], now_us: int) -> list[bytes]:
        encoded_us = self._timeline.encoded_us(now_us)
        messages = []
        for window in windows:
            frames = window.codes.shape[1]
            packet = Packet(
                len(window.codes),
                frames,
                self._timeline.take_sequence(frames),
                wrapped_timestamp(self._timeline.position),
                pack(window.codes),
                self._timeline.trace(self._timeline.captured_us(self._held), now_us, encoded_us),
                scale=1.0 if window.scale is None else window.scale,
            )
            message = encode_codes_up(packet)
            lasts = min(frames * self._model.hop_length, self._model.window_stride)
            self.traffic.add(now_us, frames, lasts, window.codes.size * BITS, len(message))
            self._timeline.position += self._model.window_stride
            self._held -= self._model.window_stride
            messages.append(message)
        return messages
