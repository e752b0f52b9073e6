"""What a client does with music on its way out: samples in, a message for each window out. Time is
an argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from earshot.client.core.clock import ServerClock
from earshot.client.core.sender import CAPTURE_SMOOTHING, GAP_US
from earshot.client.core.traffic import Traffic
from earshot.codec.bitstream import BITS, Window, pack
from earshot.codec.pcm import Pcm
from earshot.protocol.messages import WindowModel
from earshot.protocol.packet import Packet, Trace, encode_codes_up
from earshot.protocol.sequence import CLOCK_MODULUS, SEQUENCE_MODULUS, TIMESTAMP_MODULUS


class WindowEncoder(Protocol):
    """What the sender needs of codec's WindowEncoder."""

    kbps: float

    def push(self, pcm: Pcm, /) -> list[Window]: ...
    def flush(self) -> list[Window]: ...
    def reset(self) -> None: ...


class WindowSender:
    """As `Sender`, for a model that codes in windows. A window goes out when its last sample has
    come; where sound is lost, or the speaker is muted, what there is of it goes out, and a new one
    begins after the gap."""

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
        self.samples_lost = 0
        self.frames_muted = 0
        self.level = 0.0
        """Root mean square of the last block, for a meter; also while muted."""
        self._encoder, self._model = encoder, model
        self._clock, self._time_us = clock, time_us
        self._sequence = 0
        self._position = self._start = 0
        """Samples that have come, and the first of the window that is not yet out."""
        self._next_us: float | None = None

    def push(self, pcm: Pcm, captured_us: int, now_us: int) -> list[bytes]:
        """[channels, n] or [n] samples, any n, the first captured at `captured_us` -> the messages
        to send now."""
        samples = pcm.shape[-1]
        if not samples:
            return []
        self.level = float(np.sqrt(np.mean(np.square(np.nan_to_num(pcm, posinf=0, neginf=0)))))
        messages = self._follow(captured_us, now_us)
        if self.muted:
            messages += self._end(now_us)  # before the time goes on, of which a trace is counted back
        self._next_us = (self._next_us or 0.0) + self._duration_us(samples)
        if self.muted:
            self._position += samples
            self._start = self._position
            self.frames_muted += samples // self._model.hop_length
            return messages
        if self.kbps is not None and self.kbps != self._encoder.kbps:
            self._encoder.kbps = self.kbps
        self._position += samples
        return messages + self._send(self._encoder.push(pcm), now_us)

    def flush(self, now_us: int) -> list[bytes]:
        """Ends a talk: what there is of a window."""
        return self._end(now_us)

    def _follow(self, captured_us: int, now_us: int) -> list[bytes]:
        """Keeps the time of the next sample; a gap ends the window and moves the timestamp on."""
        messages: list[bytes] = []
        late = 0.0 if self._next_us is None else captured_us - self._next_us
        if self._next_us is None or abs(late) > GAP_US:
            lost = max(round(late * self._model.sample_rate / 1e6), 0)
            if lost:
                messages = self._end(now_us)
                self.samples_lost += lost
                self._position += lost
                self._start = self._position
            self._next_us = float(captured_us)
        else:
            self._next_us += late * CAPTURE_SMOOTHING
        return messages

    def _end(self, now_us: int) -> list[bytes]:
        if self._start == self._position:
            return []
        messages = self._send(self._encoder.flush(), now_us)
        self._encoder.reset()
        self._start = self._position
        return messages

    def _send(self, windows: list[Window], now_us: int) -> list[bytes]:
        encoded_us = self._time_us() if self._time_us else now_us
        messages = []
        for window in windows:
            frames = window.codes.shape[1]
            packet = Packet(
                len(window.codes),
                frames,
                self._sequence % SEQUENCE_MODULUS,
                self._start % TIMESTAMP_MODULUS,
                pack(window.codes),
                self._trace(now_us, encoded_us),
                scale=1.0 if window.scale is None else window.scale,
            )
            message = encode_codes_up(packet)
            lasts = min(frames * self._model.hop_length, self._model.window_stride)
            self.traffic.add(now_us, frames, lasts, window.codes.size * BITS, len(message))
            self._sequence += frames
            self._start += self._model.window_stride
            messages.append(message)
        return messages

    def _trace(self, framed_us: int, encoded_us: int) -> Trace | None:
        """Of the window that starts at `_start`."""
        if self._clock is None or not self._clock.ready or self._next_us is None:
            return None
        captured = round(self._next_us - self._duration_us(self._position - self._start))
        trace = Trace(self._clock.to_server(captured) % CLOCK_MODULUS)
        framed = trace.ticks_at(self._clock.to_server(framed_us))
        return Trace(trace.capture_us, framed, trace.ticks_at(self._clock.to_server(encoded_us)))

    def _duration_us(self, samples: int) -> float:
        return samples * 1e6 / self._model.sample_rate
