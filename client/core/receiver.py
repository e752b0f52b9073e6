"""What a client does with messages on their way in, without a socket: messages go in, and the sound
of all speakers comes out."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from earshot.client.core.clock import ServerClock
from earshot.client.core.jitter import NEAR_START_US, NEAR_US, START_TARGET_US
from earshot.client.core.latency import LatencyLog, Path
from earshot.client.core.level import SILENCE_DBFS, dbfs
from earshot.client.core.playout import Block, Decoder, Playout
from earshot.client.core.replay import ArrivalRecorder
from earshot.client.core.stats import SourceStats
from earshot.client.core.timeline import SampleClock
from earshot.client.core.traffic import Traffic
from earshot.codec.bitstream import BITS, unpack
from earshot.codec.pcm import Pcm, from_s16, soft_limit
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import PeerInfo, WindowModel
from earshot.protocol.packet import MAX_CODEBOOKS, CodedPacket, Packet, PcmBlock, decode_down
from earshot.protocol.silence import Silence

MAX_WAITING = 512
"""Packets that may be put before the next pull. More means that play-out stands still."""
MAX_SOURCES = 64
"""Speakers that are played at once."""
MAX_DEPARTED = 64
"""Speakers that have left, and whose figures are kept."""
LEVEL_FALL_DB_PER_S = 40.0
"""How fast a meter falls."""


class WindowSpeakers(Protocol):
    """Speakers whose codes are windows of other models than the room's. They are played elsewhere;
    the receiver passes on what concerns them."""

    sample_rate: int

    def put(self, packet: Packet, now_us: int) -> int:
        """Takes a window that arrived at `now_us` and returns how many samples it lasts. Raises
        ProtocolError if it does not fit its speaker's model."""
        ...

    def can_decode(self, model: WindowModel) -> bool:
        """Returns whether windows of this model can be played."""
        ...

    def meet(self, source: int, model: WindowModel | None, muted: bool) -> None:
        """Takes note of what a peer sends and whether it is muted."""
        ...

    def peer_left(self, source: int) -> None:
        """Takes note that a peer left."""
        ...

    def set_gain(self, source: int, gain: float) -> None:
        """Plays a peer louder (above 1) or softer."""
        ...

    def stats(self) -> dict[int, SourceStats]:
        """Returns the figures of every speaker that has been heard, by peer id."""
        ...

    def latency_of(self, source: int) -> LatencyLog | None:
        """Returns the latencies of one speaker, None for one that is not known here."""
        ...


@dataclass(frozen=True)
class _Arrived:
    source: int
    sequence: int
    timestamp: int
    frames: list[tuple[NDArray[Any], int]]
    codec_bits: int
    path: Path | None
    arrival_us: int


@dataclass(frozen=True)
class _Told:
    """What became known of a speaker."""

    source: int
    silent: bool | None
    """True where it muted itself, False where it is back, None where it left."""
    silence: Silence | None = None
    """What it told of a silence that it does not send; then `silent` means nothing."""


class _Speaker:
    def __init__(self, playout: Playout, traffic: Traffic) -> None:
        self.playout, self.traffic = playout, traffic
        self.latency = LatencyLog()
        self.left = False
        self.level_dbfs = SILENCE_DBFS
        self.last_us = 0


class Receiver:
    """Turns messages of the server into the mixed sound of all speakers.

    Two threads may share a receiver. `put`, `meet`, `peer_muted` and `peer_left` belong to the
    thread that has the socket; they only append to a bounded deque, which is atomic in CPython.
    `pull` belongs to the thread that plays; it empties the deque and does all the work. Figures may
    be read from any thread.

    `clock` turns traces into local times. `time_us` reads the local clock after decoding.
    `n_codebooks` is how many the model has. `windows` takes the windows of other models; what is
    heard of them is not in `pull`."""

    def __init__(
        self,
        make_decoder: Callable[[], Decoder],
        hop: int = 320,
        sample_rate: int = 24_000,
        *,
        n_codebooks: int = MAX_CODEBOOKS,
        clock: ServerClock | None = None,
        time_us: Callable[[], int] | None = None,
        max_sources: int = MAX_SOURCES,
        windows: WindowSpeakers | None = None,
    ) -> None:
        self.latency = LatencyLog()
        """Latencies of all speakers together. Those of one speaker are in `latency_of`."""
        self.traffic = Traffic(sample_rate)
        """Traffic of all speakers together. That of one speaker is in `stats`."""
        self.packets_dropped = 0
        """Packets that found the queue between the threads full, or that came from one speaker
        too many."""
        self.windows = windows
        self.arrivals: ArrivalRecorder | None = None
        """Writes down when what came."""
        self._make_decoder, self._hop, self._sample_rate = make_decoder, hop, sample_rate
        self._samples = SampleClock(sample_rate)
        self._n_codebooks, self._max_sources = n_codebooks, max_sources
        self._clock, self._time_us = clock, time_us
        self._waiting: deque[_Arrived | _Told] = deque()
        self._block = 0
        """Samples that the loudspeaker takes at once."""
        self._speakers: dict[int, _Speaker] = {}
        self._gains: dict[int, float] = {}
        self._departed: OrderedDict[int, tuple[SourceStats, LatencyLog]] = OrderedDict()

    # Called by the thread that has the socket

    def put(self, message: bytes, now_us: int) -> None:
        """Takes a binary message that arrived at `now_us`. Raises ProtocolError, and takes nothing
        of it, if it is malformed or has more codebooks than the model."""
        self.take(decode_down(message), len(message), now_us)

    def take(self, packets: Sequence[Packet | CodedPacket | PcmBlock | Silence], size: int, now_us: int) -> None:
        """Takes a message of `size` bytes that has been decoded, as `put` does."""
        silences = [part for part in packets if isinstance(part, Silence)]
        if silences:
            self._take_silences(silences, size, now_us)
            return
        if any(isinstance(packet, CodedPacket) for packet in packets):
            raise ProtocolError("an entropy-coded packet came, and no language model was agreed on")
        windows = [packet for packet in packets if isinstance(packet, Packet) and packet.scale is not None]
        frames = [part for part in packets if not isinstance(part, CodedPacket | Silence) and part not in windows]
        arrived = [self._arrived(packet, now_us) for packet in frames]
        self._put_windows(windows, size if not arrived else 0, now_us)
        for index, packet in enumerate(arrived):
            samples = sum(count for _, count in packet.frames)
            self.traffic.add(now_us, len(packet.frames), samples, packet.codec_bits, 0 if index else size)
            if self.arrivals is not None:
                self.arrivals.packet(packet.source, packet.sequence, packet.timestamp, len(packet.frames), now_us)
            self._append(packet)

    def _take_silences(self, silences: Sequence[Silence], size: int, now_us: int) -> None:
        self.traffic.add(now_us, 0, 0, 0, size)
        for silence in silences:
            if self.arrivals is not None:
                self.arrivals.hushed(silence.source, now_us)
            self._append(_Told(silence.source, None, silence))

    def _put_windows(self, windows: list[Packet], message_bytes: int, now_us: int) -> None:
        for index, packet in enumerate(windows):
            if self.windows is None:
                raise ProtocolError("a window came and this client named no model for it")
            samples = self.windows.put(packet, now_us) * self._sample_rate // self.windows.sample_rate
            size = 0 if index else message_bytes
            self.traffic.add(now_us, packet.frames, samples, packet.n_q * packet.frames * BITS, size)

    def meet(self, peer: PeerInfo) -> None:
        """Takes note of a peer, or of what has changed about it."""
        self.peer_muted(peer.id, peer.muted)
        if self.windows is not None:
            self.windows.meet(peer.id, peer.model, peer.muted)

    def peer_muted(self, source: int, muted: bool) -> None:
        """Takes note that a speaker is muted or is not. The silence of a muted one is no
        underrun."""
        self._append(_Told(source, muted))

    def peer_left(self, source: int) -> None:
        """Takes note that a speaker left. What has come of it is still played."""
        self._append(_Told(source, None))
        if self.windows is not None:
            self.windows.peer_left(source)

    def set_gain(self, source: int, gain: float) -> None:
        """Plays a speaker louder (above 1) or softer."""
        self._gains[source] = gain
        if self.windows is not None:
            self.windows.set_gain(source, gain)

    def _append(self, item: _Arrived | _Told) -> None:
        if len(self._waiting) >= MAX_WAITING:
            try:
                self._waiting.popleft()
            except IndexError:  # the other thread was faster
                pass
            else:
                self.packets_dropped += 1
        self._waiting.append(item)

    def _arrived(self, packet: Packet | PcmBlock, now_us: int) -> _Arrived:
        path = None
        if packet.trace is not None and self._clock is not None and self._clock.ready:
            path = Path.of(packet.trace, self._clock, now_us)
        frames: list[tuple[NDArray[Any], int]]
        if isinstance(packet, Packet):
            if packet.n_q > self._n_codebooks:
                raise ProtocolError(
                    f"{packet.n_q} codebooks from a model of {self._n_codebooks}", CloseCode.MODEL_MISMATCH
                )
            codes = unpack(packet.payload, packet.n_q, packet.frames)
            frames = [(codes[:, index], self._hop) for index in range(packet.frames)]
            bits = codes.size * BITS
        else:
            pcm = from_s16(packet.data)
            parts = [pcm[at : at + self._hop] for at in range(0, pcm.size, self._hop)]
            frames = [(part, part.size) for part in parts]
            bits = len(packet.data) * 8
        return _Arrived(packet.source, packet.sequence, packet.timestamp, frames, bits, path, now_us)

    # Called by the thread that plays

    def pull(self, n: int, now_us: int, heard_us: int | None = None) -> Pcm:
        """Returns the next `n` samples of the mix, float32 in -1..1, which are taken at `now_us`.
        The first is heard at `heard_us`."""
        self._block = n
        self._drain(now_us)
        mix = np.zeros(n, np.float32)
        for source, speaker in list(self._speakers.items()):
            block = speaker.playout.pull(n, now_us)
            gain = self._gains.get(source)
            mix += block.pcm if gain is None else block.pcm * gain
            self._log(block, now_us, now_us if heard_us is None else heard_us, speaker.latency)
            self._meter(speaker, n)
            if speaker.left and speaker.playout.idle:
                self._retire(source)
        return soft_limit(mix)

    def _drain(self, now_us: int) -> None:
        for _ in range(len(self._waiting)):
            item = self._waiting.popleft() if self._waiting else None
            if isinstance(item, _Told):
                speaker = self._speakers.get(item.source)
                if speaker is not None and item.silence is not None:
                    speaker.playout.hush(item.silence.sequence, item.silence.levels)
                elif speaker is not None:
                    speaker.left = item.silent is None
                    speaker.playout.announce_silence(item.silent is not False)
            elif item is not None:
                self._take(item, now_us)

    def _take(self, packet: _Arrived, now_us: int) -> None:
        speaker = self._speakers.get(packet.source)
        if speaker is None:
            if len(self._speakers) >= self._max_sources and not self._retire_idle():
                self.packets_dropped += 1
                return
            round_trip_us = self._clock.round_trip_us if self._clock else None
            near = round_trip_us is not None and round_trip_us <= NEAR_US and self._block <= self._hop
            start_us = NEAR_START_US if near else START_TARGET_US
            playout = Playout(self._make_decoder, self._hop, self._sample_rate, self._time_us, start_us)
            speaker = self._speakers[packet.source] = _Speaker(playout, Traffic(self._sample_rate))
        speaker.last_us = now_us
        samples = sum(count for _, count in packet.frames)
        speaker.traffic.add(packet.arrival_us, len(packet.frames), samples, packet.codec_bits, 0)
        speaker.playout.jitter.put(packet.sequence, packet.timestamp, packet.frames, packet.arrival_us, packet.path)

    def _retire_idle(self) -> bool:
        """Retires the speaker that has been silent longest. Returns False if all are talking."""
        idle = [source for source, speaker in self._speakers.items() if speaker.playout.idle]
        if idle:
            self._retire(min(idle, key=lambda source: self._speakers[source].last_us))
        return bool(idle)

    def _retire(self, source: int) -> None:
        speaker = self._speakers.pop(source)
        self._departed[source] = self._figures(speaker), speaker.latency
        self._departed.move_to_end(source)
        if len(self._departed) > MAX_DEPARTED:
            self._departed.popitem(last=False)

    def _log(self, block: Block, now_us: int, heard_us: int, log: LatencyLog) -> None:
        for index, frame in block.started:
            if frame.path is None or frame.capture_us is None:
                continue
            place = float(block.positions[index]) - frame.timestamp
            captured = frame.capture_us + self._samples.us(place)
            heard = heard_us + self._samples.us(index)
            stages = frame.path.stages_when_played(
                captured, frame.arrival_us, frame.taken_us, frame.decoded_us, now_us, heard
            )
            self.latency.add(heard, stages)
            log.add(heard, stages)

    def _meter(self, speaker: _Speaker, n: int) -> None:
        fallen = speaker.level_dbfs - LEVEL_FALL_DB_PER_S * n / self._sample_rate
        speaker.level_dbfs = max(dbfs(speaker.playout.level), fallen)

    # Figures

    def stats(self) -> dict[int, SourceStats]:
        """Returns the figures of every speaker by peer id, also of those that left."""
        speakers = dict(self._speakers)
        departed = {source: figures for source, (figures, _) in self._departed.copy().items()}
        heard = departed | {source: self._figures(speaker) for source, speaker in speakers.items()}
        return heard | self.windows.stats() if self.windows else heard

    def latency_of(self, source: int) -> LatencyLog | None:
        """Returns the latencies of one speaker, also after it left. Returns None for one that never
        spoke."""
        if (speaker := self._speakers.get(source)) is not None:
            return speaker.latency
        if self.windows and (log := self.windows.latency_of(source)) is not None:
            return log
        departed = self._departed.get(source)
        return departed[1] if departed else None

    @property
    def present(self) -> set[int]:
        """The speakers that have sent something and have not left."""
        return set(dict(self._speakers))

    def _figures(self, speaker: _Speaker) -> SourceStats:
        playout, jitter = speaker.playout, speaker.playout.jitter
        return SourceStats(
            frames_received=jitter.received,
            frames_played=jitter.taken,
            frames_waiting=len(jitter),
            frames_missing=jitter.missing,
            frames_late=jitter.late,
            frames_duplicate=jitter.duplicates,
            frames_overflow=jitter.overflow,
            underruns=playout.underruns,
            underrun_ms=playout.underrun_us / 1000,
            samples_stretched=playout.samples_stretched,
            samples_compressed=playout.samples_compressed,
            samples_silent=playout.samples_silent,
            playout_delay_ms=max(playout.delay_us, 0.0) / 1000,
            target_delay_ms=jitter.delay.target_us / 1000,
            level_dbfs=speaker.level_dbfs,
            codec_kbps=speaker.traffic.recent_codec_kbps,
            codec_kbps_total=speaker.traffic.codec_kbps,
            sample_rate=self._sample_rate,
            codec_latency_ms=self._hop * 1000 / self._sample_rate,
        )
