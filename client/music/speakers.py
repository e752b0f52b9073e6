"""Speakers whose codes are windows of another model than the room's: packets go in, and one mix of
all of them comes out.

Three threads share this. `put`, and what peers tell of themselves, belong to the thread that has
the socket. Windows are decoded wherever `submit` runs what it is given, one after the other,
because a second of music takes too long for the thread that plays. `pull` belongs to the thread
that plays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from earshot.client.core.clock import ServerClock
from earshot.client.core.latency import LatencyLog, Path
from earshot.client.core.level import dbfs
from earshot.client.core.stats import SourceStats
from earshot.client.core.timeline import SampleClock
from earshot.client.core.traffic import Traffic
from earshot.client.music.window_playout import Chunk, WindowPlayout
from earshot.codec.bitstream import BITS, Window, unpack
from earshot.codec.errors import UsageError
from earshot.codec.pcm import Pcm
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import WindowModel
from earshot.protocol.packet import Packet
from earshot.protocol.sequence import SEQUENCE_MODULUS, TIMESTAMP_MODULUS, SequenceTracker

MAX_SPEAKERS = 64
MAX_UNDECODED = 16
"""Windows of all speakers that may wait for the decoder."""


class WindowDecoder(Protocol):
    """What is needed of the codec's WindowDecoder."""

    def push(self, windows: list[Window], /) -> Pcm: ...
    def flush(self) -> Pcm: ...
    def reset(self) -> None: ...


@dataclass(frozen=True)
class Decodable:
    """A model that this client has, for speakers that announce it."""

    model: WindowModel
    """What its speakers must announce."""
    normalize: bool
    """Whether windows have a scale to be multiplied by."""
    make_decoder: Callable[[], WindowDecoder]


@dataclass(eq=False)
class MusicSpeaker:
    """One speaker. Only the thread of `submit` touches what has to do with decoding."""

    decodable: Decodable
    playout: WindowPlayout
    decoder: WindowDecoder
    traffic: Traffic
    latency: LatencyLog = field(default_factory=LatencyLog)
    left: bool = False
    frames_received: int = 0
    frames_missing: int = 0
    frames_late: int = 0
    frames_dropped: int = 0
    """Frames that the decoder had no time for."""
    sequence: SequenceTracker = field(default_factory=lambda: SequenceTracker(SEQUENCE_MODULUS))
    timestamp: SequenceTracker = field(default_factory=lambda: SequenceTracker(TIMESTAMP_MODULUS))

    def stats(self) -> SourceStats:
        """Returns its figures."""
        playout, model = self.playout, self.decodable.model
        return SourceStats(
            frames_received=self.frames_received,
            frames_played=playout.frames_played,
            frames_waiting=playout.frames_waiting,
            frames_missing=self.frames_missing,
            frames_late=self.frames_late,
            frames_overflow=playout.frames_overflow + self.frames_dropped,
            underruns=playout.underruns,
            samples_compressed=playout.samples_skipped,
            samples_silent=playout.samples_silent,
            playout_delay_ms=playout.delay_us / 1000,
            target_delay_ms=playout.target_us / 1000,
            level_dbfs=dbfs(playout.level),
            codec_kbps=self.traffic.recent_codec_kbps,
            codec_kbps_total=self.traffic.codec_kbps,
            sample_rate=model.sample_rate,
            codec_latency_ms=model.latency_s * 1000,
        )


class Music:
    """Turns windows of any number of speakers into their mix [channels, n] at `sample_rate`, which
    all models share. It is what `Receiver` calls `WindowSpeakers`."""

    def __init__(
        self,
        models: Mapping[str, Decodable],
        sample_rate: int,
        channels: int,
        *,
        clock: ServerClock | None = None,
        time_us: Callable[[], int],
        submit: Callable[[Callable[[], None]], None],
    ) -> None:
        """Takes the `models` by digest. Raises UsageError if one of them has another rate or more
        channels."""
        for each in models.values():
            if each.model.sample_rate != sample_rate or each.model.channels > channels:
                raise UsageError(f"{each.model.name} has another sample rate than the other model; name one of them")
        self.speakers: OrderedDict[int, MusicSpeaker] = OrderedDict()
        self.packets_dropped = 0
        """Packets of speakers that have not announced a model, or that are too many."""
        self.sample_rate = sample_rate
        self._samples = SampleClock(sample_rate)
        self._models, self._channels = models, channels
        self._gains: dict[int, float] = {}
        self._clock, self._time_us, self._submit = clock, time_us, submit
        # Each thread has a count of its own: if both changed one count, changes could be lost, and
        # the queue would seem fuller than it is.
        self._submitted = self._decoded = 0

    # Called by the thread that has the socket

    def can_decode(self, model: WindowModel) -> bool:
        """Returns whether this client has this model, and the peer describes it as it is."""
        ours = self._models.get(model.digest)
        return ours is not None and ours.model == model.model_copy(update={"name": ours.model.name})

    def meet(self, source: int, model: WindowModel | None, muted: bool) -> None:
        """Takes note of what a peer sends and whether it is muted."""
        speaker = self.speakers.get(source)
        if speaker is None and model is not None and self.can_decode(model) and self._has_place():
            ours = self._models[model.digest]
            playout = WindowPlayout(ours.model.channels, self.sample_rate)
            speaker = MusicSpeaker(ours, playout, ours.make_decoder(), Traffic(self.sample_rate))
            self.speakers[source] = speaker
        if speaker is not None:
            speaker.playout.announce_silence(muted)

    def set_gain(self, source: int, gain: float) -> None:
        """Plays a speaker louder (above 1) or softer."""
        self._gains[source] = gain

    def peer_left(self, source: int) -> None:
        """Takes note that a peer left. What has come of it is still played."""
        if (speaker := self.speakers.get(source)) is not None:
            speaker.left = True
            speaker.playout.announce_silence(True)

    def put(self, packet: Packet, now_us: int) -> int:
        """Takes a window that arrived at `now_us` and returns how many samples it lasts. Raises
        ProtocolError if it does not fit its speaker's model."""
        speaker = self.speakers.get(packet.source)
        if speaker is None:
            self.packets_dropped += 1
            return 0
        model = speaker.decodable.model
        if packet.n_q > model.n_codebooks or packet.frames > model.window_frames or packet.scale is None:
            raise ProtocolError(
                f"{packet.n_q} codebooks x {packet.frames} frames do not fit {model.name}", CloseCode.MODEL_MISMATCH
            )
        path = None
        if packet.trace is not None and self._clock is not None and self._clock.ready:
            path = Path.of(packet.trace, self._clock, now_us)
        speaker.frames_received += packet.frames
        lasts = min(packet.frames * model.hop_length, model.window_stride)
        speaker.traffic.add(now_us, packet.frames, lasts, packet.n_q * packet.frames * BITS, 0)
        if self._submitted - self._decoded >= MAX_UNDECODED:
            speaker.frames_dropped += packet.frames
        else:
            self._submitted += 1
            self._submit(lambda: self._decode(speaker, packet, path, now_us))
        return lasts

    def stats(self) -> dict[int, SourceStats]:
        """Returns the figures of every speaker that has been heard, by peer id."""
        players = self.speakers.copy()
        return {source: speaker.stats() for source, speaker in players.items() if speaker.frames_received}

    def latency_of(self, source: int) -> LatencyLog | None:
        """Returns the latencies of one speaker, None for one that is not known here."""
        speaker = self.speakers.get(source)
        return None if speaker is None else speaker.latency

    def _has_place(self) -> bool:
        """Returns whether one more speaker fits. If need be, one that left is forgotten."""
        if len(self.speakers) >= MAX_SPEAKERS:
            gone = next((source for source, speaker in self.speakers.items() if speaker.left), None)
            if gone is not None:
                del self.speakers[gone]
        return len(self.speakers) < MAX_SPEAKERS

    # Called where windows are decoded

    def _decode(self, speaker: MusicSpeaker, packet: Packet, path: Path | None, arrival_us: int) -> None:
        """Decodes a window, unless it comes too late.

        The decoder holds 10 ms of each window back, to join them to the next one. Where another
        window than the next one comes, they are not played. A speaker that pauses ends with a short
        window, of which everything is played."""
        self._decoded += 1
        skipped, gap = speaker.sequence.gap(packet.sequence), speaker.timestamp.gap(packet.timestamp)
        if skipped < 0 or gap < 0:
            speaker.frames_late += packet.frames
            return
        speaker.frames_missing += skipped
        if skipped or gap:
            speaker.decoder.reset()
        position = speaker.timestamp.unwrap(packet.timestamp)
        model = speaker.decodable.model
        began_us = self._time_us()
        codes = unpack(packet.payload, packet.n_q, packet.frames)
        window = Window(codes, packet.scale if speaker.decodable.normalize else None)
        try:
            pcm = speaker.decoder.push([window])
        except UsageError:  # of a length that cannot follow the one before it: a stretch of its own
            speaker.decoder.reset()
            pcm = speaker.decoder.push([window])
        speaker.sequence.expect(packet.sequence + packet.frames)
        speaker.timestamp.expect(position + min(packet.frames * model.hop_length, model.window_stride))
        ends = not pcm.shape[1]  # shorter than a stride: the last of its stretch
        if ends:
            pcm = speaker.decoder.flush()
            speaker.decoder.reset()
        speaker.playout.put(Chunk(pcm, position, packet.frames, arrival_us, began_us, self._time_us(), path, ends))

    # Called by the thread that plays

    def pull(self, n: int, now_us: int, heard_us: int) -> Pcm:
        """Returns the next samples of the mix, [channels, n], which are taken at `now_us`. The
        first is heard at `heard_us`. Mono is in all channels."""
        mix = np.zeros((self._channels, n), np.float32)
        for source, speaker in list(self.speakers.items()):
            if speaker.left and speaker.playout.idle:
                continue  # its figures stay as they are
            pcm, started = speaker.playout.pull(n, now_us)
            gain = self._gains.get(source)
            mix += pcm if gain is None else pcm * gain
            for index, chunk in started:
                if chunk.path is None:
                    continue
                heard = heard_us + self._samples.us(index)
                stages = chunk.path.stages_when_played(
                    chunk.path.capture_us, chunk.arrival_us, chunk.taken_us, chunk.decoded_us, now_us, heard
                )
                speaker.latency.add(heard, stages)
        return mix
