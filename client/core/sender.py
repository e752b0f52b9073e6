"""What a client does with sound on its way out, without a socket: PCM goes in and messages come
out. Time is an argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from earshot.client.core.clock import ServerClock
from earshot.client.core.level import rms
from earshot.client.core.timeline import SendTimeline, wrapped_timestamp
from earshot.client.core.traffic import Traffic
from earshot.codec.bitstream import BITS, pack
from earshot.codec.errors import UsageError
from earshot.codec.pcm import Framer, Pcm, sanitize, to_s16
from earshot.protocol.packet import MAX_FRAMES, Packet, PcmFormat, PcmUp, Trace, encode_codes_up, encode_pcm_up

SendFormat = Literal["codes", "pcm"]
"""What a client that talks sends: codes that it made itself, or PCM for the server to encode."""


class Encoder(Protocol):
    """What the sender needs of an EncoderSession with start="zeros"."""

    kbps: float

    def push(self, pcm: Pcm, /) -> NDArray[np.int16]:
        """Encodes [hop * k] samples to [n_q, k] codes."""
        ...


class MediaSender(Protocol):
    """What a call needs of a sender, of frames or of windows."""

    traffic: Traffic
    muted: bool
    kbps: float | None
    """Codec rate of what is yet to be encoded."""
    level: float
    """Root mean square of the last block, for a meter, also while muted."""

    def push(self, pcm: Pcm, captured_us: int, now_us: int) -> list[bytes]:
        """Takes samples and returns the messages to send now."""
        ...

    def flush(self, now_us: int) -> list[bytes]:
        """Ends a talk and returns its last messages."""
        ...


class Sender:
    """Turns samples of a microphone into messages: cuts frames, encodes them if codes are to be
    sent, numbers them and traces them.

    An `encoder` is needed to send codes. `clock` and `time_us` are those of `SendTimeline`. A
    sender is not for use from several threads, but `muted` and `kbps` may be set from any; they
    take effect with the next push."""

    def __init__(
        self,
        send_format: SendFormat,
        *,
        hop: int = 320,
        sample_rate: int = 24_000,
        encoder: Encoder | None = None,
        frames_per_packet: int = 1,
        clock: ServerClock | None = None,
        time_us: Callable[[], int] | None = None,
        sequence: int = 0,
        timestamp: int = 0,
    ) -> None:
        if send_format == "codes" and encoder is None:
            raise UsageError("the uplink 'codes' needs an encoder")
        if not 1 <= frames_per_packet <= MAX_FRAMES:
            raise UsageError(f"frames_per_packet must be in 1..{MAX_FRAMES}, not {frames_per_packet}")
        self.traffic = Traffic(sample_rate)
        self.muted = False
        self.kbps: float | None = encoder.kbps if encoder else None
        """Codec rate of the frames to come. It has no effect on PCM."""
        self.samples_lost = 0
        """Samples that the device never delivered, by its capture times."""
        self.samples_replaced = 0
        """NaN, infinite or impossibly loud samples that became silence."""
        self.frames_muted = 0
        self.level = 0.0
        """Root mean square of the last block, for a meter, also while muted."""
        self._encoder = encoder if send_format == "codes" else None
        self._hop = hop
        self._frames_per_packet = frames_per_packet
        self._timeline = SendTimeline(sample_rate, clock, time_us, sequence, timestamp)
        self._framer = Framer(hop)
        self._waiting: list[tuple[NDArray[np.int16], int, Trace | None]] = []

    def push(self, pcm: Pcm, captured_us: int, now_us: int) -> list[bytes]:
        """Takes [n] samples, any n, the first of which was captured at `captured_us`, and returns
        the messages to send now."""
        clean, replaced = sanitize(pcm)
        self.samples_replaced += replaced
        messages: list[bytes] = []
        if clean.size:
            self.level = rms(clean)
            messages += self._follow(clean.size, captured_us, now_us)
        messages += self._send(self._framer.push(clean), now_us)
        return messages

    def flush(self, now_us: int) -> list[bytes]:
        """Ends a talk. Returns the partial last frame, filled up with silence, and what waits for a
        packet."""
        messages = self._fill_frame(now_us)
        return messages + self._send_waiting(now_us)

    def _follow(self, samples: int, captured_us: int, now_us: int) -> list[bytes]:
        """Keeps the capture time. A gap ends the frame with silence and moves the timestamp on."""
        messages: list[bytes] = []
        lost = self._timeline.lost(captured_us)
        if lost:
            self.samples_lost += lost
            filled = -self._framer.rest.size % self._hop
            messages = self._fill_frame(now_us) + self._send_waiting(now_us)
            self._timeline.skip(max(lost - filled, 0))
        self._timeline.follow(captured_us)
        self._timeline.advance(samples)
        return messages

    def _fill_frame(self, now_us: int) -> list[bytes]:
        missing = -self._framer.rest.size % self._hop
        if not missing:
            return []
        self._timeline.advance(missing)
        return self._send(self._framer.push(np.zeros(missing, np.float32)), now_us)

    def _send(self, frames: Pcm, now_us: int) -> list[bytes]:
        """Sends [k, hop] frames that have just become whole."""
        count = len(frames)
        position = self._timeline.position
        self._timeline.position += count * self._hop
        if self.muted:
            self.frames_muted += count
            return self._send_waiting(now_us)
        if not count:
            return []
        first_us = self._timeline.captured_us(self._framer.rest.size + count * self._hop)
        if self._encoder is None:
            return [self._pcm_message(frames[i], position + i * self._hop, first_us, i, now_us) for i in range(count)]
        messages: list[bytes] = []
        if self.kbps is not None and self.kbps != self._encoder.kbps:
            messages += self._send_waiting(now_us)
            self._encoder.kbps = self.kbps
        codes = self._encoder.push(frames.reshape(-1))  # [n_q, k]
        if codes.shape[1] != count:
            raise UsageError(f"the encoder made {codes.shape[1]} frames of {count}; it must start on zeros")
        encoded_us = self._timeline.encoded_us(now_us)
        for i in range(count):
            trace = self._trace(first_us, i, now_us, encoded_us)
            self._waiting.append((codes[:, i], position + i * self._hop, trace))
            if len(self._waiting) >= self._frames_per_packet:
                messages += self._send_waiting(now_us)
        return messages

    def _pcm_message(self, frame: Pcm, position: int, first_us: float, index: int, now_us: int) -> bytes:
        trace = self._trace(first_us, index, now_us, None)
        data = to_s16(frame)
        message = PcmUp(PcmFormat.S16, self._timeline.take_sequence(1), wrapped_timestamp(position), data, trace)
        encoded = encode_pcm_up(message)
        self.traffic.add(now_us, 1, self._hop, len(data) * 8, len(encoded))
        return encoded

    def _send_waiting(self, now_us: int) -> list[bytes]:
        if not self._waiting:
            return []
        waiting, self._waiting = self._waiting, []
        codes = np.stack([column for column, _, _ in waiting], axis=1)  # [n_q, frames]
        _, position, trace = waiting[0]
        count = len(waiting)
        sequence, timestamp = self._timeline.take_sequence(count), wrapped_timestamp(position)
        message = encode_codes_up(Packet(codes.shape[0], count, sequence, timestamp, pack(codes), trace))
        self.traffic.add(now_us, count, count * self._hop, codes.size * BITS, len(message))
        return [message]

    def _trace(self, first_us: float, index: int, framed_us: int, encoded_us: int | None) -> Trace | None:
        captured_us = first_us + self._timeline.samples.us(index * self._hop)
        return self._timeline.trace(captured_us, framed_us, encoded_us)
