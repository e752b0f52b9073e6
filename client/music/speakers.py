"""Speakers whose codes are windows of another model than the room's: packets in, one mix of all of
them out.

Three threads share it: `put` and what peers tell belong to the one that has the socket; windows are
decoded wherever `submit` runs what it is given, one after the other, because a second of music
takes too long for the thread that plays; `pull` belongs to that one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from earshot.client.core.clock import ServerClock
from earshot.client.core.latency import LatencyLog, Path
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
"""Windows that wait for the decoder, of all speakers."""


class WindowDecoder(Protocol):
    """What is needed of codec's WindowDecoder."""

    def push(self, windows: list[Window], /) -> Pcm: ...
    def flush(self) -> Pcm: ...
    def reset(self) -> None: ...


@dataclass(frozen=True)
class Decodable:
    """A model that this client has: what its speakers must announce, and how their codes are
    decoded."""

    model: WindowModel
    normalize: bool
    make_decoder: Callable[[], WindowDecoder]


@dataclass(eq=False)
class MusicSpeaker:
    """One speaker. What has to do with decoding is touched by `submit`'s thread only."""

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
    """That the decoder had no time for, or that do not fit their model."""
    sequence: SequenceTracker = field(default_factory=lambda: SequenceTracker(SEQUENCE_MODULUS))
    timestamp: SequenceTracker = field(default_factory=lambda: SequenceTracker(TIMESTAMP_MODULUS))


class Music:
    """Windows of any number of speakers to their mix [channels, n] at `sample_rate`, which all
    models share."""

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
        """`models` by digest. Raises UsageError if one has another rate or more channels."""
        for each in models.values():
            if each.model.sample_rate != sample_rate or each.model.channels > channels:
                raise UsageError(f"{each.model.name} has another sample rate than the other model; name one of them")
        self.speakers: OrderedDict[int, MusicSpeaker] = OrderedDict()
        self.packets_dropped = 0
        """Of speakers that nobody has announced, or that there is no room for."""
        self.sample_rate = sample_rate
        self._models, self._channels = models, channels
        self._clock, self._time_us, self._submit = clock, time_us, submit
        # Two counts, each of one thread: of one that both change some changes could be lost, and
        # places with them.
        self._submitted = self._decoded = 0

    # Called by the thread that has the socket

    def can_decode(self, model: WindowModel) -> bool:
        """Whether it has this model, and the peer says of it what is so."""
        ours = self._models.get(model.digest)
        return ours is not None and ours.model == model.model_copy(update={"name": ours.model.name})

    def meet(self, source: int, model: WindowModel | None, muted: bool) -> None:
        """A peer says what it sends."""
        speaker = self.speakers.get(source)
        if speaker is None and model is not None and self.can_decode(model) and self._has_room():
            ours = self._models[model.digest]
            playout = WindowPlayout(ours.model.channels, self.sample_rate)
            speaker = MusicSpeaker(ours, playout, ours.make_decoder(), Traffic(self.sample_rate))
            self.speakers[source] = speaker
        if speaker is not None:
            speaker.playout.announce_silence(muted)

    def peer_left(self, source: int) -> None:
        """What there is of it is still played."""
        if (speaker := self.speakers.get(source)) is not None:
            speaker.left = True
            speaker.playout.announce_silence(True)

    def put(self, packet: Packet, now_us: int) -> int:
        """A window that arrived at `now_us`; returns how many samples it lasts. Raises
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

    def _has_room(self) -> bool:
        """Makes some by forgetting a speaker that left."""
        if len(self.speakers) >= MAX_SPEAKERS:
            gone = next((source for source, speaker in self.speakers.items() if speaker.left), None)
            if gone is not None:
                del self.speakers[gone]
        return len(self.speakers) < MAX_SPEAKERS

    # Called where windows are decoded

    def _decode(self, speaker: MusicSpeaker, packet: Packet, path: Path | None, arrival_us: int) -> None:
        """Where a window does not follow the one before it, the 10 ms that were held for the one
        that should have are not played; a speaker that pauses ends with a short window, of which
        everything is."""
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
        """The next samples of the mix, [channels, n], taken at `now_us`; the first is heard at
        `heard_us`. Mono is in all channels."""
        mix = np.zeros((self._channels, n), np.float32)
        for speaker in list(self.speakers.values()):
            if speaker.left and speaker.playout.idle:
                continue  # its figures stay as they are
            pcm, started = speaker.playout.pull(n, now_us)
            mix += pcm
            for index, chunk in started:
                if chunk.path is None:
                    continue
                heard = heard_us + index * 1e6 / self.sample_rate
                # What was decoded waited for its time in the jitter buffer's stead.
                waited = max(now_us - chunk.decoded_us, 0)
                taken, decoded = chunk.taken_us + waited, chunk.decoded_us + waited
                stages = chunk.path.stages(chunk.path.capture_us, chunk.arrival_us, taken, decoded, heard)
                speaker.latency.add(heard, stages)
        return mix
