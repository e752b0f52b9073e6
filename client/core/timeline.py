"""The timeline of one speaker, which is the same for speech in frames and for music in windows.

A timeline counts samples. `SendTimeline` numbers what is sent and knows when each sample was
captured. `PlayoutTimeline` knows when samples are due and counts what did not come in time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from earshot.client.core.clock import ServerClock
from earshot.protocol.packet import Trace
from earshot.protocol.sequence import CLOCK_MODULUS, SEQUENCE_MODULUS, TIMESTAMP_MODULUS

GAP_US = 20_000
"""A capture time this much later than the samples before it means that the device lost some. Less
is jitter of the device's time stamps, which PulseAudio moves by several milliseconds."""
CAPTURE_SMOOTHING = 1 / 32
"""Share of a capture time's deviation that is believed, per block. It follows a clock that is 0.1 %
off within 0.5 ms."""


@dataclass(frozen=True, slots=True)
class SampleClock:
    """Converts between samples and microseconds."""

    sample_rate: int

    def us(self, samples: float) -> float:
        """Returns how long samples last."""
        return samples * 1e6 / self.sample_rate

    def samples(self, us: float) -> float:
        """Returns how many samples a time lasts."""
        return us * self.sample_rate / 1e6


class SendTimeline:
    """Sequence numbers, timestamps and capture times of what one speaker sends.

    `clock` makes traces possible once it is ready. `time_us` reads the local clock after encoding;
    without it encoding seems to take no time. There is a trace for what was captured at least
    `trace_every_us` after what the last one was for."""

    def __init__(
        self,
        sample_rate: int,
        clock: ServerClock | None = None,
        time_us: Callable[[], int] | None = None,
        sequence: int = 0,
        timestamp: int = 0,
        trace_every_us: int = 0,
    ) -> None:
        self.samples = SampleClock(sample_rate)
        self.sequence = sequence
        """Number of the next frame, not wrapped."""
        self.position = timestamp
        """Position of the first sample that has not been sent, not wrapped."""
        self._clock, self._time_us = clock, time_us
        self._trace_every_us, self._traced_us = trace_every_us, -math.inf
        self._next_us: float | None = None
        """When the next sample to come is captured. None where the next block will tell."""

    def lost(self, captured_us: int) -> int:
        """Returns how many samples the device lost before a block that was captured now."""
        late = 0.0 if self._next_us is None else captured_us - self._next_us
        return round(self.samples.samples(late)) if late > GAP_US else 0

    def skip(self, samples: int) -> None:
        """Leaves samples out that were lost. The next capture time is believed as it is."""
        self.position += samples
        self._next_us = None

    def follow(self, captured_us: int) -> None:
        """Takes the capture time of the next sample: smoothed, or as it is after a jump."""
        late = 0.0 if self._next_us is None else captured_us - self._next_us
        if self._next_us is None or abs(late) > GAP_US:
            self._next_us = float(captured_us)
        else:
            self._next_us += late * CAPTURE_SMOOTHING

    def advance(self, samples: int) -> None:
        """Moves the capture time on by samples that have come."""
        self._next_us = (self._next_us or 0.0) + self.samples.us(samples)

    def captured_us(self, held: int) -> float:
        """Returns when the first of the last `held` samples was captured."""
        return (self._next_us or 0.0) - self.samples.us(held)

    def take_sequence(self, count: int) -> int:
        """Returns the sequence number, wrapped, for the next `count` frames or messages."""
        sequence = self.sequence % SEQUENCE_MODULUS
        self.sequence += count
        return sequence

    def encoded_us(self, now_us: int) -> int:
        """Returns the time after encoding that began at `now_us`."""
        return self._time_us() if self._time_us else now_us

    def trace(self, captured_us: float, framed_us: int, encoded_us: int | None) -> Trace | None:
        """Returns the trace of a packet whose first sample was captured at `captured_us`, or None
        while the server's clock is unknown, and so soon after another trace that none is due."""
        if self._clock is None or not self._clock.ready or captured_us - self._traced_us < self._trace_every_us:
            return None
        self._traced_us = captured_us
        trace = Trace(self._clock.to_server(round(captured_us)) % CLOCK_MODULUS)
        framed = trace.ticks_at(self._clock.to_server(framed_us))
        encoded = 0 if encoded_us is None else trace.ticks_at(self._clock.to_server(encoded_us))
        return Trace(trace.capture_us, framed, encoded)


def wrapped_timestamp(position: int) -> int:
    """Returns the position of a sample as it goes on the wire."""
    return position % TIMESTAMP_MODULUS


class PlayoutTimeline:
    """When the samples of one speaker are due, and how often they were not there.

    A speaker that says nothing for `spurt_end_us` after its last sample has stopped talking."""

    def __init__(self, sample_rate: int, spurt_end_us: int) -> None:
        self.samples = SampleClock(sample_rate)
        self.underruns = 0
        """How often audio was due and not there."""
        self.silence_announced = False
        """Whether the speaker has said that it is silent, so that what does not come is no
        underrun."""
        self._spurt_end_us = spurt_end_us
        self._dry_us: int | None = None

    @property
    def dry(self) -> bool:
        """Whether play-out has stopped because nothing came, so recently that the speaker may be in
        the middle of a word."""
        return self._dry_us is not None

    def wait(self, due_us: float, now_us: int, filled: int) -> int:
        """Returns how many samples of a block, beyond those that are `filled`, go by until a sample
        is due. The block begins at `now_us`."""
        return max(math.ceil(self.samples.samples(due_us - now_us)) - filled, 0)

    def ran_dry(self, now_us: int) -> None:
        """Takes note that play-out stopped because nothing came."""
        self._dry_us = now_us

    def resume(self) -> None:
        """Takes note that play-out goes on, or that the speaker ended what it said."""
        self._dry_us = None

    def block_played(self, now_us: int) -> None:
        """Counts an underrun for a speaker that ran dry and has stayed so for too long."""
        if self._dry_us is not None and now_us - self._dry_us > self._spurt_end_us:
            self.underruns += not self.silence_announced
            self._dry_us = None
