"""Play-out of one speaker: makes an even stream of samples out of frames that come unevenly, at the
pace of the output device.

Every sample keeps its place on the speaker's timeline, also through stretching and compressing, so
that its age stays known. Where nothing came, concealment goes on for a few frames, or the sound
fades into silence; then it fades back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from earshot.client.core.background import SILENCE, ComfortNoise
from earshot.client.core.concealment import Concealment, Forkable
from earshot.client.core.fade import FadeIn
from earshot.client.core.jitter import START_TARGET_US, Frame, JitterBuffer
from earshot.client.core.level import rms
from earshot.client.core.tempo import Plan, Tempo
from earshot.client.core.timeline import PlayoutTimeline
from earshot.client.core.timescale import LONGEST_LAG_S, SHORTEST_LAG_S, TEMPLATE_S, find_lag, lengthen, shorten
from earshot.codec.pcm import Pcm

QUIET_RMS = 10 ** (-50 / 20)
"""A passage quieter than this may be shortened or lengthened anywhere."""
QUIET_SHARE = 0.1
"""A passage is quiet, too, if it is 20 dB below the speaker's own level."""
LEVEL_DECAY = 0.995
"""Share of the speaker's level that is left after a block."""
BURST_FRAMES = 8
"""Frames that are decoded ahead in one call, at most, while a backlog is made up for. More would
take longer than a block lasts."""
SPURT_END_US = 1_000_000
"""Silence after which a speaker that said nothing has stopped, not stalled."""


class Decoder(Protocol):
    """What play-out needs of a DecoderSession with start="zeros"."""

    def push(self, codes: NDArray[np.int16], /) -> Pcm:
        """Decodes [n_q, k] codes to [hop * k] samples."""
        ...


@dataclass
class Block:
    """Samples of one speaker, as the output device gets them."""

    pcm: Pcm
    positions: NDArray[np.float64]
    """Where each sample is on the speaker's timeline. NaN where silence or a fade is played."""
    started: list[tuple[int, Frame]]
    """The frames whose first sample is in the block, with the index of that sample."""
    capture_us: float | None
    """When the first sample of the block was spoken, in local time. None where it is not traced or
    not speech."""


class Playout:
    """Pulls frames through a jitter buffer and a decoder.

    `time_us` reads the local clock after decoding, and `start_us` is the jitter buffer's first
    target. All frames that are taken are decoded, and
    `samples_decoded + samples_stretched - samples_compressed` is `samples_played +
    samples_waiting`.
    """

    def __init__(
        self,
        make_decoder: Callable[[], Decoder],
        hop: int,
        sample_rate: int,
        time_us: Callable[[], int] | None = None,
        start_us: float = START_TARGET_US,
    ) -> None:
        self.jitter = JitterBuffer(sample_rate, hop, start_us=start_us)
        self.sample_rate = sample_rate
        self.samples_decoded = 0
        self.samples_played = 0
        self.samples_stretched = 0
        self.samples_compressed = 0
        self.samples_silent = 0
        """Samples without audio of the speaker, since its first frame was played."""
        self.underrun_us = 0.0
        """How long the underruns lasted in all."""
        self.delay_us = 0.0
        """How much older the first sample of the last block that played was than the fastest frame
        on arrival."""
        self.level = 0.0
        """Root mean square of the last block."""
        self.conceals = True
        """Whether what does not come in time is concealed."""
        self._make_decoder = make_decoder
        self._decoder: Decoder | None = None
        self._time_us = time_us
        self._hop = hop
        self._timeline = PlayoutTimeline(sample_rate, SPURT_END_US)
        self._fade_in = FadeIn(sample_rate)
        self._fade = self._fade_in.length
        self._shortest, self._longest = round(SHORTEST_LAG_S * sample_rate), round(LONGEST_LAG_S * sample_rate)
        self._template = round(TEMPLATE_S * sample_rate)
        self._tempo = Tempo(sample_rate)
        self._pcm: Pcm = np.zeros(0, np.float32)
        self._positions: NDArray[np.float64] = np.zeros(0)
        self._taken: list[Frame] = []
        self._decoded: deque[Frame] = deque()
        self._current: Frame | None = None
        self._expected: int | None = None
        self._playing = False
        self._stopped_us = 0.0
        self._history: Pcm = np.zeros(self._fade, np.float32)
        self._tail: Pcm = np.zeros(0, np.float32)
        self._loudness = 0.0
        self._noise = ComfortNoise(sample_rate)
        self._concealment = Concealment(sample_rate, hop)
        self._last: Frame | None = None
        """The last frame that was decoded."""
        self._silenced = False
        self._hushed: int | None = None
        """Number of the frame with which the speaker goes on after a silence that it told of."""

    @property
    def underruns(self) -> int:
        """How often audio was due and not there. The end of talk is no underrun."""
        return self._timeline.underruns

    @property
    def samples_waiting(self) -> int:
        """Samples that are decoded and not yet played."""
        return self._pcm.size

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing plays."""
        return not (len(self.jitter) or self._playing or self._tail.size or self._concealment.active)

    def announce_silence(self, silent: bool) -> None:
        """Takes note that the speaker muted itself or left (True), or is back (False). What a
        silent speaker does not send is no underrun."""
        self._silenced = silent
        if silent:
            self._noise.describe(SILENCE)
        self._timeline.silence_announced = silent or self._hushed is not None

    def hush(self, sequence: int, levels: bytes) -> None:
        """Takes note that the speaker sends nothing until the frame of this number on the wire, and
        what its background sounds like meanwhile."""
        self._hushed = self.jitter.number_of(sequence)
        self._timeline.silence_announced = True
        self._noise.describe(SILENCE if self._silenced else levels)

    def pull(self, n: int, now_us: int) -> Block:
        """Returns the next `n` samples, which the device takes at `now_us`."""
        if n > self._hop:
            self.jitter.delay.be_careful()
        pcm = np.zeros(n, np.float32)
        positions = np.full(n, np.nan)
        self._add_tail(pcm)
        filled, concealed, hushed = 0, 0, self._hushed is not None
        plan = self._tempo.plan(self.jitter.delay.target_us, self.jitter.delay.base_us) if self._playing else None
        while filled < n:
            if not self._playing:
                wait = self._wait(n, filled, now_us)
                if wait is None or filled + wait >= n:
                    break
                filled += wait
                if self._concealment.active:
                    self._concealment.add(pcm[concealed:filled])
                    self._concealment.end(pcm[filled:])
                self._begin(now_us + self._media_us(filled))
            self._refill(n - filled, plan, now_us)
            if plan is not None:
                self._scale(plan, n, n - filled)
                plan = None
                self._refill(n - filled, None, now_us)
            got = min(n - filled, self._pcm.size)
            if got:
                part = slice(filled, filled + got)
                pcm[part] += self._take_samples(got)
                positions[part], self._positions = self._positions[:got], self._positions[got:]
                filled += got
            else:
                self._stopped_us = now_us + self._media_us(filled)
                self._stop(pcm[filled:], now_us)
                concealed = filled
        if self._concealment.active:
            self._concealment.add(pcm[concealed:])
        return self._finish(pcm, positions, now_us, hushed)

    def _wait(self, n: int, filled: int, now_us: int) -> int | None:
        """Returns how many samples of silence, counted from `filled`, there are until the next
        frame is due, or None where there is no frame.

        Play-out waits until the frames that end its block can have come, and then for the target
        delay. It does not wait for the target delay before a frame that goes on where play-out ran
        dry, because the wait for that frame has been long enough."""
        frame = self.jitter.peek()
        if frame is None:
            return None
        delay = self.jitter.delay
        ahead = (n - 1) // self._hop * self._hop
        margin = 0.0 if self._goes_on(frame) else delay.target_us
        due_us = self._media_us(frame.timestamp + ahead) + delay.base_us + margin
        return self._timeline.wait(due_us, now_us, filled)

    def _goes_on(self, frame: Frame) -> bool:
        return self.jitter.is_next(frame) and frame.timestamp == self._expected

    def _begin(self, at_us: float) -> None:
        """Takes the first frame of a stretch without gaps, which begins to play at `at_us`."""
        frame = self.jitter.peek()
        if frame is not None and self._expected is not None:
            dry = self._goes_on(frame) and self._timeline.dry and self._hushed is None
            if dry:
                self.jitter.delay.underrun()
            if dry or not self.jitter.is_next(frame):
                self._timeline.underruns += 1
                self.underrun_us += at_us - self._stopped_us
        self._timeline.resume()
        self._playing = True
        self._fade_in.begin()
        self._take()

    def _take(self) -> None:
        frame = self.jitter.take()
        if frame is not None:
            if self._hushed is not None and frame.sequence >= self._hushed:
                self._hushed = None
                self._timeline.silence_announced = self._silenced
            self._taken.append(frame)
            self._expected = frame.timestamp + frame.samples

    def _refill(self, need: int, plan: Plan | None, now_us: int) -> None:
        """Takes the frames for `need` samples, and those that time scaling looks at, and decodes
        them in one go."""
        if plan is not None:
            need += BURST_FRAMES * self._hop
        have = self._pcm.size + sum(frame.samples for frame in self._taken)
        while have < need and (frame := self.jitter.peek()) is not None and self._goes_on(frame):
            self._take()
            have += frame.samples
        if self._taken:
            taken, self._taken = self._taken, []
            self._decode(taken, now_us)

    def _decode(self, frames: list[Frame], now_us: int) -> None:
        parts = [self._pcm]
        for rows, group in groupby(frames, lambda frame: len(frame.data) if frame.data.dtype == np.int16 else 0):
            data = [frame.data for frame in group]
            if rows:
                self._decoder = self._decoder or self._make_decoder()
                parts.append(self._decoder.push(np.stack(data, axis=1)))
            else:
                parts += data
        decoded_us = self._time_us() if self._time_us else now_us
        self._last = frames[-1] if frames[-1].data.dtype == np.int16 else None
        for frame in frames:
            frame.taken_us, frame.decoded_us = now_us, decoded_us
            self.samples_decoded += frame.samples
            self._decoded.append(frame)
        self._pcm = np.concatenate(parts)
        places = [frame.timestamp + np.arange(frame.samples, dtype=np.float64) for frame in frames]
        self._positions = np.concatenate([self._positions, *places])

    def _scale(self, plan: Plan, n: int, need: int) -> None:
        """Carries out a plan on the samples that are next, if they are fit for it."""
        cutting = plan.samples > 0
        limit = min(max(abs(plan.samples), 0 if cutting else self._shortest), self._longest, self._pcm.size // 2)
        lag = similarity = 0.0
        if limit >= self._shortest:
            quiet = rms(self._pcm[: 2 * limit]) < max(QUIET_RMS, QUIET_SHARE * self._loudness)
            lag, similarity = (limit, 1.0) if quiet else find_lag(self._pcm, self._shortest, limit, self._template)
            if not (quiet or plan.hard or (plan.urgent and similarity >= plan.similar)):
                lag = 0
        cut = int(lag) if cutting else -int(lag)
        spent = 0
        if cut:
            phase = round(float(self._positions[0])) - (self._expected or 0)
            spent = cut + self._lead(n, phase + cut) - self._lead(n, phase)
            if cutting and spent > plan.headroom:
                return
        if cut > 0:
            self._pcm, self._positions = shorten(self._pcm, cut), shorten(self._positions, cut)
            self.samples_compressed += cut
        elif cut < 0:
            self._pcm, self._positions = lengthen(self._pcm, -cut), lengthen(self._positions, -cut)
            self.samples_stretched -= cut
        self._tempo.done(plan, cut, spent)

    def _lead(self, n: int, phase: int) -> int:
        """Returns how many samples there are, at most, from the first of a block of `n` to the
        start of the frame that ends it.

        `phase` is where a block begins within a frame; later blocks come round to other phases. A
        cut that moves the blocks off the frame boundaries costs up to a frame of spare time."""
        step = math.gcd(n, self._hop)
        return max((at + n - 1) // self._hop * self._hop - at for at in range(phase % step, self._hop, step))

    def _take_samples(self, count: int) -> Pcm:
        samples, self._pcm = self._pcm[:count], self._pcm[count:]
        self.samples_played += count
        self._fade_in.apply(samples)
        self._history = np.concatenate([self._history, samples])[-self._fade :]
        return samples

    def _stop(self, rest: Pcm, now_us: int) -> None:
        """Stops play-out where nothing came for the `rest` of the block. Where the speaker goes on
        as far as is known, that is concealed; else what was played last fades out there, turned
        round."""
        self._playing = False
        self._timeline.ran_dry(now_us)
        self._tempo.interrupted()
        if self._last is not None and self._goes_on_speaking and isinstance(self._decoder, Forkable):
            self._concealment.begin(self._decoder, self._last.data)
            return
        fall = np.arange(self._fade, 0, -1, dtype=np.float32) / np.float32(self._fade)
        self._tail = self._history[::-1] * fall
        self._history = np.zeros(self._fade, np.float32)
        self._add_tail(rest)

    @property
    def _goes_on_speaking(self) -> bool:
        return self.conceals and not self._timeline.silence_announced

    def _add_tail(self, pcm: Pcm) -> None:
        count = min(self._tail.size, pcm.size)
        pcm[:count] += self._tail[:count]
        self._tail = self._tail[count:]

    def _finish(self, pcm: Pcm, positions: NDArray[np.float64], now_us: int, hushed: bool) -> Block:
        """Counts the block and finds out which frames it started. `hushed` is whether it began in a
        silence that the speaker told of."""
        silent = np.isnan(positions)
        if self._expected is not None:
            self.samples_silent += int(np.count_nonzero(silent))
        self._noise.add(pcm, silent if hushed or self._hushed is not None else np.zeros_like(silent))
        self._timeline.block_played(now_us)
        holder, started = self._current, self._started(positions)
        capture = None
        if positions.size and not np.isnan(positions[0]):
            self.delay_us = now_us - self._media_us(float(positions[0])) - self.jitter.delay.base_us
            holder = started[0][1] if started and started[0][0] == 0 else holder
            if holder is not None and holder.capture_us is not None:
                capture = holder.capture_us + self._media_us(float(positions[0]) - holder.timestamp)
        if self._playing and self._current is not None:
            self._tempo.observe(now_us, now_us - self._media_us(self._current.timestamp))
        self._tempo.played(pcm.size)
        self.level = rms(pcm)
        self._loudness = max(self.level, self._loudness * LEVEL_DECAY)
        return Block(pcm, positions, started, capture)

    def _started(self, positions: NDArray[np.float64]) -> list[tuple[int, Frame]]:
        started: list[tuple[int, Frame]] = []
        (heard,) = np.nonzero(~np.isnan(positions))
        places = positions[heard]
        while self._decoded and places.size and self._decoded[0].timestamp <= places.max():
            frame = self._decoded.popleft()
            started.append((int(heard[np.argmax(places >= frame.timestamp)]), frame))
            self._current = frame
        return started

    def _media_us(self, samples: float) -> float:
        return self._timeline.samples.us(samples)
