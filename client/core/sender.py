"""What a client does with sound on its way out, without a socket: PCM in, messages out. Time is an
argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np
from earshot.client.core.clock import ServerClock
from earshot.client.core.traffic import Traffic
from earshot.codec.bitstream import BITS, pack
from earshot.codec.errors import UsageError
from earshot.codec.pcm import Framer, Pcm, sanitize, to_s16
from earshot.protocol.packet import MAX_FRAMES, Packet, PcmFormat, PcmUp, Trace, encode_codes_up, encode_pcm_up
from earshot.protocol.sequence import CLOCK_MODULUS, SEQUENCE_MODULUS, TIMESTAMP_MODULUS
from numpy.typing import NDArray

Uplink = Literal["codes", "pcm"]

GAP_US = 20_000
"""A capture time this much later than the samples before it means that the device lost some; less
is jitter of the device's time stamps, which PulseAudio moves by several milliseconds."""
CAPTURE_SMOOTHING = 1 / 32
"""Share of a capture time's deviation that is believed, per block: follows a clock that is 0.1 %
off within 0.5 ms."""


class Encoder(Protocol):
    """What the sender needs of an EncoderSession with start="zeros"."""

    kbps: float

    def push(self, pcm: Pcm, /) -> NDArray[np.int16]:
        """[hop * k] -> [n_q, k]."""
        ...


class Sender:
    """Microphone samples to messages: cuts frames, encodes them if the uplink is codes, numbers and
    traces them.

    `encoder` is needed for the uplink "codes". `clock` puts traces on packets once it is ready.
    `time_us` reads the local clock after encoding; without it encoding seems to take no time. Not
    for use from several threads, but `muted` and `kbps` may be set from any; they take effect with
    the next push."""

    def __init__(
        self,
        uplink: Uplink,
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
        if uplink == "codes" and encoder is None:
            raise UsageError("the uplink 'codes' needs an encoder")
        if not 1 <= frames_per_packet <= MAX_FRAMES:
            raise UsageError(f"frames_per_packet must be in 1..{MAX_FRAMES}, not {frames_per_packet}")
        self.traffic = Traffic(sample_rate)
        self.muted = False
        self.kbps: float | None = encoder.kbps if encoder else None
        """Codec rate of the frames to come; of no effect with the uplink "pcm"."""
        self.samples_lost = 0
        """Samples that the device never delivered, by its capture times."""
        self.samples_replaced = 0
        """NaN, infinite or impossibly loud samples that became silence."""
        self.frames_muted = 0
        self.level = 0.0
        """Root mean square of the last block, for a meter; also while muted."""
        self._encoder = encoder if uplink == "codes" else None
        self._hop, self._sample_rate = hop, sample_rate
        self._frames_per_packet = frames_per_packet
        self._clock, self._time_us = clock, time_us
        self._framer = Framer(hop)
        self._sequence, self._timestamp = sequence, timestamp
        self._next_us: float | None = None
        self._waiting: list[tuple[NDArray[np.int16], int, Trace | None]] = []

    def push(self, pcm: Pcm, captured_us: int, now_us: int) -> list[bytes]:
        """[n] samples, any n, the first of which was captured at `captured_us` -> the messages to
        send now."""
        clean, replaced = sanitize(pcm)
        self.samples_replaced += replaced
        messages: list[bytes] = []
        if clean.size:
            self.level = float(np.sqrt(np.mean(np.square(clean))))
            messages += self._follow(clean.size, captured_us, now_us)
        messages += self._send(self._framer.push(clean), now_us)
        return messages

    def flush(self, now_us: int) -> list[bytes]:
        """Ends a talk: the partial last frame, filled up with silence, and what waits for a
        packet."""
        messages = self._fill_frame(now_us)
        return messages + self._send_waiting(now_us)

    def _follow(self, samples: int, captured_us: int, now_us: int) -> list[bytes]:
        """Keeps the time of the next sample. A gap ends the frame with silence and moves the
        timestamp on."""
        messages: list[bytes] = []
        expected = self._next_us
        late = 0.0 if expected is None else captured_us - expected
        if expected is None or late < -GAP_US:
            expected = float(captured_us)
        elif late > GAP_US:
            lost = round(late * self._sample_rate / 1e6)
            self.samples_lost += lost
            filled = -self._framer.rest.size % self._hop
            messages = self._fill_frame(now_us) + self._send_waiting(now_us)
            self._timestamp += max(lost - filled, 0)
            expected = float(captured_us)
        else:
            expected += late * CAPTURE_SMOOTHING
        self._next_us = expected + self._duration_us(samples)
        return messages

    def _fill_frame(self, now_us: int) -> list[bytes]:
        missing = -self._framer.rest.size % self._hop
        if not missing:
            return []
        self._next_us = (self._next_us or now_us) + self._duration_us(missing)
        return self._send(self._framer.push(np.zeros(missing, np.float32)), now_us)

    def _send(self, frames: Pcm, now_us: int) -> list[bytes]:
        """[k, hop] frames that just became whole."""
        count = len(frames)
        timestamp = self._timestamp
        self._timestamp += count * self._hop
        if self.muted:
            self.frames_muted += count
            return self._send_waiting(now_us)
        if not count:
            return []
        held = self._framer.rest.size + count * self._hop
        first_us = (now_us if self._next_us is None else self._next_us) - self._duration_us(held)
        if self._encoder is None:
            return [self._pcm_message(frames[i], timestamp + i * self._hop, first_us, i, now_us) for i in range(count)]
        messages: list[bytes] = []
        if self.kbps is not None and self.kbps != self._encoder.kbps:
            messages += self._send_waiting(now_us)
            self._encoder.kbps = self.kbps
        codes = self._encoder.push(frames.reshape(-1))  # [n_q, k]
        if codes.shape[1] != count:
            raise UsageError(f"the encoder made {codes.shape[1]} frames of {count}; it must start on zeros")
        encoded_us = self._time_us() if self._time_us else now_us
        for i in range(count):
            trace = self._trace(first_us, i, now_us, encoded_us)
            self._waiting.append((codes[:, i], timestamp + i * self._hop, trace))
            if len(self._waiting) >= self._frames_per_packet:
                messages += self._send_waiting(now_us)
        return messages

    def _pcm_message(self, frame: Pcm, timestamp: int, first_us: float, index: int, now_us: int) -> bytes:
        trace = self._trace(first_us, index, now_us, None)
        data = to_s16(frame)
        message = PcmUp(PcmFormat.S16, self._take_sequence(1), timestamp % TIMESTAMP_MODULUS, data, trace)
        encoded = encode_pcm_up(message)
        self.traffic.add(now_us, 1, self._hop, len(data) * 8, len(encoded))
        return encoded

    def _send_waiting(self, now_us: int) -> list[bytes]:
        if not self._waiting:
            return []
        waiting, self._waiting = self._waiting, []
        codes = np.stack([column for column, _, _ in waiting], axis=1)  # [n_q, frames]
        _, timestamp, trace = waiting[0]
        count = len(waiting)
        payload = pack(codes)
        packet = Packet(
            codes.shape[0], count, self._take_sequence(count), timestamp % TIMESTAMP_MODULUS, payload, trace
        )
        message = encode_codes_up(packet)
        self.traffic.add(now_us, count, count * self._hop, codes.size * BITS, len(message))
        return [message]

    def _take_sequence(self, count: int) -> int:
        sequence = self._sequence % SEQUENCE_MODULUS
        self._sequence += count
        return sequence

    def _trace(self, first_us: float, index: int, framed_us: int, encoded_us: int | None) -> Trace | None:
        if self._clock is None or not self._clock.ready:
            return None
        captured = round(first_us + self._duration_us(index * self._hop))
        trace = Trace(self._clock.to_server(captured) % CLOCK_MODULUS)
        framed = trace.ticks_at(self._clock.to_server(framed_us))
        encoded = 0 if encoded_us is None else trace.ticks_at(self._clock.to_server(encoded_us))
        return Trace(trace.capture_us, framed, encoded)

    def _duration_us(self, samples: int) -> float:
        return samples * 1e6 / self._sample_rate
