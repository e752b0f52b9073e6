"""What a speaker sends: its order checked, its pace limited, its PCM cut into frames. No clock of
its own."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np

from earshot.codec.config import ModelConfig
from earshot.codec.pcm import Framer, Pcm, from_s16, sanitize
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import WindowModel
from earshot.protocol.packet import TRACE_TICK_US, CodedPacket, Packet, PcmFormat, PcmUp, Trace
from earshot.protocol.sequence import CLOCK_MODULUS, SEQUENCE_MODULUS, TIMESTAMP_MODULUS, SequenceTracker
from earshot.protocol.silence import Silence
from earshot.server.core.rate_limit import TokenBucket

CLOCK_TOLERANCE = 1.01
"""Sound cards differ from the server's clock by up to 0.1 %; without slack that would fill any
burst in time."""
FORGET_US = 12 * 3600 * 1_000_000
"""After so long a silence any timestamp is taken: 2^31 samples (24.8 h at 24 kHz) could not be told
from going back."""


_Codes = TypeVar("_Codes", Packet, CodedPacket)


class SpokenFrame(NamedTuple):
    """One frame of a speaker's PCM, with what its packet will say."""

    pcm: Pcm | bytes
    """[hop] samples; as it came, signed 16-bit, where a message was just this frame."""
    sequence: int
    timestamp: int
    trace: Trace | None


class ContinuityCheck:
    """Decides whether a speaker's next message may follow the one before it.

    It discards what comes late, twice, or from further ahead than the time that has passed."""

    def __init__(self, sample_rate: int, ahead_us: int) -> None:
        self._sample_rate = sample_rate
        self._ahead_us = ahead_us
        self._last_us: int | None = None
        self._sequence = SequenceTracker(SEQUENCE_MODULUS)
        self._timestamp = SequenceTracker(TIMESTAMP_MODULUS)
        self.skipped = 0
        """Sequence numbers that the last admitted message left out."""
        self.gap = 0
        """Samples that are missing between the last admitted message and the one before it."""

    @property
    def next_sequence(self) -> int | None:
        """The sequence that follows in order, None before the first message."""
        return self._sequence.expected

    def admit(self, sequence: int, timestamp: int, count: int, samples: int, unit_samples: int, now_us: int) -> bool:
        """Returns whether a message of `count` sequence numbers and `samples` samples may follow,
        and if so, expects the one after it from now on.

        `unit_samples` is the least number of samples that one sequence number stands for. Neither
        number may jump further than the time that has passed and the burst that is allowed."""
        last_us = self._last_us
        if last_us is None or now_us - last_us >= FORGET_US:
            self._sequence.reset()
            self._timestamp.reset()
            last_us = now_us
        skipped, gap = self._sequence.gap(sequence), self._timestamp.gap(timestamp)
        reach = (now_us - last_us + self._ahead_us) * self._sample_rate / 1e6
        if skipped < 0 or gap < 0 or gap > reach or skipped * unit_samples > reach:
            return False
        self.skipped, self.gap = skipped, gap
        self._last_us = now_us
        self._sequence.expect(sequence + count)
        self._timestamp.expect(timestamp + samples)
        return True


class Uplink:
    """One speaker's way in, for PCM or for codes. Counts what `stats` tells."""

    def __init__(self, config: ModelConfig | WindowModel, audio_burst_ms: float, now_us: int) -> None:
        self._config = config
        self._hop = config.hop_length
        self._window = config if isinstance(config, WindowModel) else None
        # A window comes at its end, all at once: that much is not ahead of real time.
        whole = self._window.window_stride if self._window else 0
        burst = audio_burst_ms * config.sample_rate / 1000 + whole
        self._pace = TokenBucket(config.sample_rate * CLOCK_TOLERANCE, burst, now_us)
        self._burst_ms = audio_burst_ms
        self._continuity = ContinuityCheck(config.sample_rate, int(audio_burst_ms * 1000))
        self._framer = Framer(self._hop)
        self._rest_timestamp = 0
        self._rest_capture_us: int | None = None
        self._sequence = 0
        self._samples_received = 0
        self._samples_discarded = 0
        self.samples_replaced = 0

    @property
    def frames_received(self) -> int:
        return self._samples_received // self._hop

    @property
    def frames_discarded(self) -> int:
        """Started frames count whole."""
        return -(-self._samples_discarded // self._hop)

    def credit(self, span_us: int) -> None:
        """Takes in that the server stood still for so long: what came meanwhile is not ahead of
        real time."""
        self._pace.credit(span_us)

    @property
    def next_sequence(self) -> int | None:
        """The sequence that the speaker's next message should have, None before the first."""
        return self._continuity.next_sequence

    def discard(self, frames: int) -> None:
        """Counts frames that were lost after they had been accepted."""
        self._samples_discarded += frames * self._hop

    def _take(self, samples: int, now_us: int, lasts: int | None = None) -> None:
        """Counts samples in; `lasts` is how many go by until the next may come, if not all."""
        if not self._pace.take(samples if lasts is None else lasts, now_us):
            raise ProtocolError(
                f"audio comes more than {self._burst_ms:g} ms ahead of real time", CloseCode.FASTER_THAN_REAL_TIME
            )
        self._samples_received += samples

    def codes(self, packet: _Codes, muted: bool, now_us: int) -> _Codes | None:
        """A packet of codes as it came, None if it is discarded. Raises ProtocolError."""
        if packet.n_q > self._config.n_codebooks:
            raise ProtocolError(
                f"{packet.n_q} codebooks: {self._config.name} has {self._config.n_codebooks}", CloseCode.MODEL_MISMATCH
            )
        samples = lasts = packet.frames * self._hop
        unit = self._hop
        if (packet.scale is not None) != (self._window is not None):
            raise ProtocolError("frames and windows: a client sends one or the other, as its hello says")
        if self._window is not None:
            if packet.frames > self._window.window_frames:
                raise ProtocolError(
                    f"a window of {packet.frames} frames: {self._config.name} has {self._window.window_frames}",
                    CloseCode.MODEL_MISMATCH,
                )
            lasts = min(samples, self._window.window_stride)
            unit = self._window.window_stride // self._window.window_frames
        self._take(samples, now_us, lasts)
        fits = self._continuity.admit(packet.sequence, packet.timestamp, packet.frames, lasts, unit, now_us)
        if not fits or muted:
            self._samples_discarded += samples
            return None
        if packet.trace is None:
            return packet
        return packet._replace(trace=packet.trace.received_at(now_us))

    def silence(self, silence: Silence, muted: bool, now_us: int) -> bool:
        """Returns whether a sign of silence counts, or is discarded. Raises ProtocolError. It is
        charged like a frame, so that a flood of them is none that frames could not be."""
        self._take(0, now_us, self._hop)
        fits = self._continuity.admit(silence.sequence, silence.timestamp, 0, 0, self._hop, now_us)
        return fits and not muted

    def pcm(self, message: PcmUp, muted: bool, now_us: int) -> list[SpokenFrame]:
        """The frames that a message completes. Raises ProtocolError.

        Where a speaker paused within a frame, silence fills it up."""
        data, trace = message.data, message.trace
        whole = message.format is PcmFormat.S16
        samples = len(data) // message.format.sample_bytes
        self._take(samples, now_us)
        fits = self._continuity.admit(message.sequence, message.timestamp, 1, samples, 0, now_us)
        if not fits or muted:
            self._samples_discarded += samples
            if muted:
                self._framer.take_rest()
            return []
        frames: list[SpokenFrame] = []
        gap, rest = self._continuity.gap, self._framer.rest.size
        if gap and rest:
            filling = min(gap, self._hop - rest)
            frames += self._cut(np.zeros(filling, np.float32), self._rest_timestamp + rest, trace, now_us)
        if self._continuity.skipped:
            # The speaker had these and lost them; a pause would have left the sequence whole.
            self._sequence += min(gap // self._hop, SEQUENCE_MODULUS // 4)
        if whole and samples == self._hop and not self._framer.rest.size:
            frames.append(self._next(data, message.timestamp, None if trace is None else trace.received_at(now_us)))
            return frames
        if whole:  # all numbers are possible samples
            return frames + self._cut(from_s16(data), message.timestamp, trace, now_us)
        pcm, replaced = sanitize(np.frombuffer(data, "<f4").astype(np.float32))
        self.samples_replaced += replaced
        return frames + self._cut(pcm, message.timestamp, trace, now_us)

    def _next(self, pcm: Pcm | bytes, timestamp: int, trace: Trace | None) -> SpokenFrame:
        number = self._sequence % SEQUENCE_MODULUS
        self._sequence += 1
        return SpokenFrame(pcm, number, timestamp, trace)

    def _cut(self, pcm: Pcm, timestamp: int, trace: Trace | None, now_us: int) -> list[SpokenFrame]:
        held = self._framer.rest.size
        if not held:
            self._rest_timestamp = timestamp
            self._rest_capture_us = None if trace is None else trace.capture_us
        start, capture_us = self._rest_timestamp, self._rest_capture_us
        cut = self._framer.push(pcm)
        frames = []
        for index, samples in enumerate(cut):
            if index and trace is not None:
                capture_us = trace.capture_us + self._microseconds(index * self._hop - held)
            at = (start + index * self._hop) % TIMESTAMP_MODULUS
            frames.append(self._next(samples, at, self._traced(capture_us, trace, now_us)))
        if len(cut):
            self._rest_timestamp = start + len(cut) * self._hop
            used = len(cut) * self._hop - held
            self._rest_capture_us = None if trace is None else trace.capture_us + self._microseconds(used)
        return frames

    def _microseconds(self, samples: int) -> int:
        return samples * 1_000_000 // self._config.sample_rate

    def _traced(self, capture_us: int | None, message: Trace | None, now_us: int) -> Trace | None:
        """The trace of a frame that starts at `capture_us` and ends in `message`."""
        if capture_us is None or message is None:
            return None
        if capture_us == message.capture_us:
            return Trace(capture_us, message.framed, received=message.ticks_at(now_us))
        trace = Trace(capture_us % CLOCK_MODULUS)
        framed = trace.ticks_at(message.capture_us + message.framed * TRACE_TICK_US) if message.framed else 0
        return Trace(trace.capture_us, framed, received=trace.ticks_at(now_us))
