"""Arrival traces: when the packets of a call came, written down as text and played again without a
clock, so that a rule of the jitter buffer can be judged by figures that never change.

A trace is text. Its first line is `earshot-arrivals 1 SAMPLE_RATE HOP`. Every other line is
`WAIT SOURCE FRAMES [SKIPPED GAP]`: microseconds since the line before, the speaker, how many frames
came, and how far the packet's sequence and timestamp were beyond the expected ones, if they were.
`WAIT SOURCE muted` and `WAIT SOURCE talks` say that a speaker muted itself or is back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from earshot.client.core.playout import Decoder, Playout
from earshot.codec.errors import DataError
from earshot.codec.pcm import Pcm
from earshot.protocol.sequence import SEQUENCE_MODULUS, TIMESTAMP_MODULUS, SequenceTracker

MAGIC = "earshot-arrivals"
VERSION = 1
_NUMBERS = 1 << 10
"""Values of one code, so that two codes hold the number of a frame."""


class Arrived(NamedTuple):
    """One packet as it came. Sequence and timestamp are not wrapped and begin at 0."""

    arrival_us: int
    source: int
    frames: int
    sequence: int
    timestamp: int


class Told(NamedTuple):
    """A speaker muted itself (`silent`), or is back."""

    arrival_us: int
    source: int
    silent: bool


@dataclass(frozen=True)
class ArrivalTrace:
    """What came in a call, in the order in which it came."""

    sample_rate: int
    hop: int
    events: Sequence[Arrived | Told]

    @property
    def sources(self) -> list[int]:
        """The speakers that sent something."""
        return sorted({event.source for event in self.events if isinstance(event, Arrived)})

    def of(self, source: int) -> list[Arrived | Told]:
        """Returns what came of one speaker."""
        return [event for event in self.events if event.source == source]


class ArrivalRecorder:
    """Writes a trace down line by line while a call goes on."""

    def __init__(self, sample_rate: int, hop: int, write: Callable[[str], object]) -> None:
        """`write` takes each line, with its end."""
        self._hop, self._write = hop, write
        self._last_us: int | None = None
        self._trackers: dict[int, tuple[SequenceTracker, SequenceTracker]] = {}
        self._hushed: set[int] = set()
        write(f"{MAGIC} {VERSION} {sample_rate} {hop}\n")

    def reconnected(self) -> None:
        """Notes that sequences and timestamps may begin anywhere again."""
        self._trackers.clear()
        self._hushed.clear()

    def packet(self, source: int, sequence: int, timestamp: int, frames: int, arrival_us: int) -> None:
        """Notes a packet, whose sequence and timestamp are those on the wire."""
        order, place = self._trackers.setdefault(
            source, (SequenceTracker(SEQUENCE_MODULUS), SequenceTracker(TIMESTAMP_MODULUS))
        )
        if source in self._hushed:
            self._hushed.remove(source)
            self.told(source, False, arrival_us)
        skipped, gap = order.gap(sequence), place.gap(timestamp)
        order.expect(sequence + frames)
        place.expect(timestamp + frames * self._hop)
        self._line(source, f"{frames} {skipped} {gap}" if skipped or gap else f"{frames}", arrival_us)

    def hushed(self, source: int, now_us: int) -> None:
        """Notes that a speaker sends nothing until its next packet, as if it were muted."""
        if source not in self._hushed:
            self._hushed.add(source)
            self.told(source, True, now_us)

    def told(self, source: int, silent: bool, now_us: int) -> None:
        """Notes that a speaker muted itself, or is back."""
        if source in self._trackers:
            self._line(source, "muted" if silent else "talks", now_us)

    def _line(self, source: int, rest: str, at_us: int) -> None:
        wait = 0 if self._last_us is None else max(at_us - self._last_us, 0)
        self._last_us = at_us
        self._write(f"{wait} {source} {rest}\n")


def parse_trace(text: str) -> ArrivalTrace:
    """Reads a trace. Raises DataError for what is none; it names the line."""
    lines = text.splitlines()
    try:
        magic, version, rate, hop = lines[0].split()
        trace = ArrivalTrace(int(rate), int(hop), [])
    except (IndexError, ValueError) as error:
        raise DataError("this is no arrival trace: its first line names none") from error
    if magic != MAGIC or int(version) != VERSION or trace.sample_rate <= 0 or trace.hop <= 0:
        raise DataError(f"{lines[0][:80]!r} does not begin an arrival trace of version {VERSION}")
    now_us, expected, events = 0, dict[int, tuple[int, int]](), list[Arrived | Told]()
    for number, line in enumerate(lines[1:], 2):
        try:
            wait, source, what, *beyond = line.split()
            now_us += int(wait)
            if what in ("muted", "talks"):
                events.append(Told(now_us, int(source), what == "muted"))
                continue
            skipped, gap = map(int, beyond or (0, 0))
            sequence, timestamp = expected.get(int(source), (0, 0))
            event = Arrived(now_us, int(source), int(what), sequence + skipped, timestamp + gap)
        except ValueError as error:
            raise DataError(f"line {number} of the arrival trace is malformed: {line[:80]!r}") from error
        if event.frames < 1 or int(wait) < 0:
            raise DataError(f"line {number} of the arrival trace is malformed: {line[:80]!r}")
        events.append(event)
        expected[event.source] = event.sequence + event.frames, event.timestamp + event.frames * trace.hop
    return ArrivalTrace(trace.sample_rate, trace.hop, events)


class Voice:
    """Stands in for a decoder: the frames of one endless sentence of a made voice, found by their
    numbers. Voiced syllables of changing pitch, hiss, and pauses of 0.4 s in every 2 s."""

    def __init__(self, sample_rate: int, hop: int) -> None:
        self._rate, self._hop = sample_rate, hop

    def push(self, codes: NDArray[np.int16], /) -> Pcm:
        """Returns the sound of the frames that [2, k] codes number."""
        numbers = codes[0].astype(np.int64) * _NUMBERS + codes[1]
        return self.sound((numbers[:, None] * self._hop + np.arange(self._hop)).reshape(-1))

    def sound(self, samples: NDArray[np.int64]) -> Pcm:
        """Returns the sound at these places."""
        t = samples / self._rate
        turn = 130 * t + 3 * np.sin(2 * np.pi * 0.7 * t)  # the pitch moves between 117 and 143 Hz
        harmonics = np.arange(1, 12)[:, None]
        voiced = (np.sin(2 * np.pi * harmonics * turn) / harmonics).sum(axis=0)
        hiss = np.sin(samples * samples % 10_007 * 1.7)
        syllable = np.sin(np.pi * (t * 4 % 1)) ** 2
        loud = np.where(t * 4 % 4 < 3, voiced, 0.3 * hiss) * syllable * (t % 2 < 1.6)
        return np.asarray(0.2 * loud + 0.0003 * hiss, dtype=np.float32)


def numbered(sequence: int) -> NDArray[np.int16]:
    """Returns the codes that number a frame for `Voice`."""
    return np.array(divmod(sequence % (_NUMBERS * _NUMBERS), _NUMBERS), np.int16)


@dataclass
class Replay:
    """One speaker of a trace as it was heard."""

    playout: Playout
    block: int
    """Samples of a block."""
    started_us: int = 0
    """When the first block was pulled."""
    delays_us: list[float] = field(default_factory=list)
    """How much older the sound of each block was than the fastest frame on arrival. NaN where
    nothing played."""
    pcm: list[Pcm] = field(default_factory=list)
    positions: list[NDArray[np.float64]] = field(default_factory=list)

    def delay_at_us(self, at_us: int) -> float:
        """Returns the delay of the block that was pulled at a time, or of the last one that played
        before."""
        before = int((at_us - self.started_us) * self.playout.sample_rate / 1e6 / self.block) + 1
        known = [delay for delay in self.delays_us[:before] if not np.isnan(delay)]
        return known[-1] if known else 0.0

    def figures(self) -> ReplayFigures:
        """Returns what a listener notices."""
        played, rate = self.playout, self.playout.sample_rate
        delays = np.array([delay for delay in self.delays_us if not np.isnan(delay)] or [0.0]) / 1000
        p50, p95, p99 = (float(value) for value in np.percentile(delays, (50, 95, 99)))
        scaled = played.samples_stretched + played.samples_compressed
        return ReplayFigures(
            seconds=len(self.delays_us) * self.block / rate,
            underruns=played.underruns,
            underrun_s=played.underrun_us / 1e6,
            frames_missing=played.jitter.missing,
            delay_p50_ms=p50,
            delay_p95_ms=p95,
            delay_p99_ms=p99,
            time_scaled_share=scaled / max(played.samples_played, 1),
        )


@dataclass(frozen=True)
class ReplayFigures:
    """What a listener notices of a jitter buffer."""

    seconds: float
    underruns: int
    underrun_s: float
    """How long there was nothing to play although the speaker spoke."""
    frames_missing: int
    delay_p50_ms: float
    """Delay that the jitter buffer added to that of the fastest frames."""
    delay_p95_ms: float
    delay_p99_ms: float
    time_scaled_share: float
    """Samples cut out or repeated, as a share of those that were played."""


def replay(trace: ArrivalTrace, source: int, block: int = 0, decoder: Decoder | None = None) -> Replay:
    """Plays what came of one speaker through a jitter buffer, in blocks of `block` samples (of a
    frame, if 0). The result depends on nothing but the arguments."""
    block = block or trace.hop
    voice = decoder or Voice(trace.sample_rate, trace.hop)
    result = Replay(Playout(lambda: voice, trace.hop, trace.sample_rate), block)
    events = trace.of(source)
    if not events:
        return result
    result.started_us = now_us = events[0].arrival_us
    waiting, pulls = 0, 0
    while waiting < len(events) or not result.playout.idle:
        while waiting < len(events) and events[waiting].arrival_us <= now_us:
            _put(result.playout, events[waiting], trace.hop)
            waiting += 1
        if waiting == len(events):
            result.playout.announce_silence(True)  # the end of a trace is no underrun
        pulled = result.playout.pull(block, now_us)
        playing = pulled.positions.size and not np.isnan(pulled.positions[0])
        result.delays_us.append(result.playout.delay_us if playing else float("nan"))
        result.pcm.append(pulled.pcm)
        result.positions.append(pulled.positions)
        pulls += 1
        now_us = result.started_us + round(pulls * block * 1e6 / trace.sample_rate)
    return result


def _put(playout: Playout, event: Arrived | Told, hop: int) -> None:
    if isinstance(event, Told):
        playout.announce_silence(event.silent)
        return
    frames = [(numbered(event.sequence + index), hop) for index in range(event.frames)]
    sequence, timestamp = event.sequence % SEQUENCE_MODULUS, event.timestamp % TIMESTAMP_MODULUS
    playout.jitter.put(sequence, timestamp, frames, event.arrival_us, None)
