"""What a client does with sound on its way out, without a socket: PCM goes in and messages come
out. Time is an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from earshot.client.core.background import BackgroundMeter
from earshot.client.core.clock import ServerClock
from earshot.client.core.level import dbfs, rms
from earshot.client.core.timeline import SendTimeline, wrapped_timestamp
from earshot.client.core.traffic import Traffic
from earshot.client.core.voice_activity import VoiceActivity
from earshot.codec.bitstream import BITS, pack
from earshot.codec.errors import UsageError
from earshot.codec.pcm import Framer, Pcm, sanitize, to_s16
from earshot.protocol.packet import MAX_FRAMES, Packet, PcmFormat, PcmUp, Trace, encode_codes_up, encode_pcm_up
from earshot.protocol.sequence import SEQUENCE_MODULUS
from earshot.protocol.silence import Silence, encode_silence_up

SendFormat = Literal["codes", "pcm"]
"""What a client that talks sends: codes that it made itself, or PCM for the server to encode."""


MORE_FRAMES_S = 0.5
"""Where packets are to hold more frames, they hold one more each time so long has gone by: so the
jitter buffers of listeners grow before they must."""
LEAST_PRE_ROLL, MOST_PRE_ROLL = 2, 8
"""Frames of silence that are sent after all, right before speech: one less than in a packet, so
that the packet goes at once with the first frame of speech, but so many at least and at most."""
SIGN_EVERY_S = 4.0
"""Time between two signs of the same silence."""


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
    frames_per_packet: int
    """Frames of the packets to come, where the sender can choose that."""
    frames_silent: int
    """Frames that were not sent because nobody spoke in them."""
    level: float
    """Root mean square of the last block, for a meter, also while muted."""

    def push(self, pcm: Pcm, captured_us: int, now_us: int) -> list[bytes]:
        """Takes samples and returns the messages to send now."""
        ...

    def flush(self, now_us: int) -> list[bytes]:
        """Ends a talk and returns its last messages."""
        ...


class _Coded(NamedTuple):
    """A frame that is encoded and not yet sent."""

    codes: NDArray[np.int16]
    position: int
    captured_us: float
    framed_us: int
    encoded_us: int


class Sender:
    """Turns samples of a microphone into messages: cuts frames, encodes them if codes are to be
    sent, numbers them and traces them.

    An `encoder` is needed to send codes. With `quiet` (codes only) silence is not sent, but told
    of. `clock`, `time_us` and `trace_every_us` are those of `SendTimeline`. A sender is not for use
    from several threads, but `muted`, `kbps` and `frames_per_packet` may be set from any; they take
    effect with the next push."""

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
        quiet: bool = False,
        trace_every_us: int = 0,
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
        self.frames_silent = 0
        self.frames_per_packet = frames_per_packet
        """What packets should hold: fewer at once, more one by one."""
        self.level = 0.0
        """Root mean square of the last block, for a meter, also while muted."""
        self._encoder = encoder if send_format == "codes" else None
        self._hop = hop
        self._frames, self._more_at = frames_per_packet, 0
        self._more_after = round(MORE_FRAMES_S * sample_rate)
        self._timeline = SendTimeline(sample_rate, clock, time_us, sequence, timestamp, trace_every_us)
        self._framer = Framer(hop)
        self._waiting: list[_Coded] = []
        self._activity = VoiceActivity(sample_rate / hop) if quiet and self._encoder else None
        self._background = BackgroundMeter(sample_rate, hop)
        self._silent_since: int | None = None
        """Position of the last sign of silence, None while frames are sent."""
        self._sign_every = round(SIGN_EVERY_S * sample_rate)
        self._held: deque[_Coded] = deque(maxlen=MOST_PRE_ROLL)
        """The last frames of silence, which are sent after all if speech follows."""

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
            self._held.clear()
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
            self._silent_since = None
            self._held.clear()
            return self._send_waiting(now_us)
        if not count:
            return []
        first_us = self._timeline.captured_us(self._framer.rest.size + count * self._hop)
        if self._encoder is None:
            return [self._pcm_message(frames[i], position + i * self._hop, first_us, i, now_us) for i in range(count)]
        messages: list[bytes] = []
        if self.kbps is not None and self.kbps != self._encoder.kbps:
            messages += self._send_waiting(now_us)
            self._held.clear()
            self._encoder.kbps = self.kbps
        codes = self._encoder.push(frames.reshape(-1))  # [n_q, k]
        if codes.shape[1] != count:
            raise UsageError(f"the encoder made {codes.shape[1]} frames of {count}; it must start on zeros")
        encoded_us = self._timeline.encoded_us(now_us)
        for i in range(count):
            captured_us = first_us + self._timeline.samples.us(i * self._hop)
            coded = _Coded(codes[:, i], position + i * self._hop, captured_us, now_us, encoded_us)
            messages += self._send_coded(coded, frames[i], now_us)
        return messages

    def _send_coded(self, coded: _Coded, frame: Pcm, now_us: int) -> list[bytes]:
        """Sends a frame, or holds it back: until its packet is full, or because it is silent."""
        self._choose_frames(coded.position)
        if self._activity is not None and not self._speaks(self._activity, frame):
            return self._be_silent(coded, now_us)
        if self._silent_since is not None:
            pre_roll = max(self._frames - 1, LEAST_PRE_ROLL)
            self._waiting = list(self._held)[-pre_roll:]
            self.frames_silent -= len(self._waiting)
            self._held.clear()
            self._silent_since = None
        self._waiting.append(coded)
        messages = []
        while len(self._waiting) >= self._frames:
            full, self._waiting = self._waiting[: self._frames], self._waiting[self._frames :]
            messages.append(self._packet(full, now_us))
        return messages

    def _choose_frames(self, position: int) -> None:
        wanted = min(max(self.frames_per_packet, 1), MAX_FRAMES)
        if wanted <= self._frames:
            self._frames, self._more_at = wanted, position + self._more_after
        elif position >= self._more_at:
            self._frames, self._more_at = self._frames + 1, position + self._more_after

    def _speaks(self, activity: VoiceActivity, frame: Pcm) -> bool:
        level_db = dbfs(rms(frame))
        if not activity.is_loud(level_db):
            self._background.take(frame)
        return activity.take(level_db)

    def _be_silent(self, coded: _Coded, now_us: int) -> list[bytes]:
        messages = self._send_waiting(now_us)
        self._held.append(coded)
        self.frames_silent += 1
        since = self._silent_since
        if since is None or coded.position - since >= self._sign_every:
            self._silent_since = coded.position
            sequence, position = self._timeline.sequence % SEQUENCE_MODULUS, self._held[0].position
            levels = self._background.levels
            messages.append(encode_silence_up(Silence(sequence, wrapped_timestamp(position), levels)))
            self.traffic.add(now_us, 0, 0, 0, len(messages[-1]))
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
        return [self._packet(waiting, now_us)]

    def _packet(self, frames: list[_Coded], now_us: int) -> bytes:
        codes = np.stack([coded.codes for coded in frames], axis=1)  # [n_q, frames]
        first, count = frames[0], len(frames)
        trace = self._timeline.trace(first.captured_us, first.framed_us, first.encoded_us)
        sequence, timestamp = self._timeline.take_sequence(count), wrapped_timestamp(first.position)
        message = encode_codes_up(Packet(codes.shape[0], count, sequence, timestamp, pack(codes), trace))
        self.traffic.add(now_us, count, count * self._hop, codes.size * BITS, len(message))
        return message

    def _trace(self, first_us: float, index: int, framed_us: int, encoded_us: int | None) -> Trace | None:
        captured_us = first_us + self._timeline.samples.us(index * self._hop)
        return self._timeline.trace(captured_us, framed_us, encoded_us)
