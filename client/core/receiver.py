"""What a client does with messages on their way in, without a socket: messages in, the sound of all
speakers out."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from earshot.client.core.clock import ServerClock
from earshot.client.core.latency import LatencyLog, Path
from earshot.client.core.playout import Block, Decoder, Playout
from earshot.client.core.traffic import Traffic
from earshot.client.music.speakers import Music, MusicSpeaker
from earshot.codec.bitstream import BITS, unpack
from earshot.codec.pcm import Pcm, from_s16, soft_limit
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.packet import MAX_CODEBOOKS, CodedPacket, Packet, PcmBlock, decode_down
from numpy.typing import NDArray

MAX_WAITING = 512
"""Packets that were put and not yet pulled; more means that play-out stands still."""
MAX_SOURCES = 64
MAX_DEPARTED = 64
"""Speakers that left whose figures are kept."""
SILENCE_DBFS = -96.0
LEVEL_FALL_DB_PER_S = 40.0
"""How fast a meter falls."""


@dataclass(frozen=True)
class SourceStats:
    """One speaker as heard here. Frames: `received` = `played` + `late` + `duplicates` + `overflow`
    + `waiting`."""

    frames_received: int = 0
    frames_played: int = 0
    frames_waiting: int = 0
    frames_missing: int = 0
    frames_late: int = 0
    frames_duplicate: int = 0
    frames_overflow: int = 0
    underruns: int = 0
    samples_stretched: int = 0
    samples_compressed: int = 0
    samples_silent: int = 0
    playout_delay_ms: float = 0.0
    target_delay_ms: float = 0.0
    level_dbfs: float = SILENCE_DBFS
    codec_kbps: float = 0.0
    """Over the last two seconds of its audio."""
    codec_kbps_total: float = 0.0
    """Since its first frame."""
    sample_rate: int = 24_000
    codec_latency_ms: float = 0.0
    """What coding alone delays it by: a frame, or a window."""


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
    """A speaker muted itself (True), is back (False) or left (None)."""

    source: int
    silent: bool | None


class _Speaker:
    def __init__(self, playout: Playout, traffic: Traffic) -> None:
        self.playout, self.traffic = playout, traffic
        self.latency = LatencyLog()
        self.left = False
        self.level_dbfs = SILENCE_DBFS
        self.last_us = 0


class Receiver:
    """Messages of the server to the mixed sound of all speakers.

    Two threads may share it: `put`, `peer_muted` and `peer_left` belong to the one that has the
    socket and only append to a bounded deque (atomic in CPython); `pull` belongs to the one that
    plays, empties it, and does all the work. Figures may be read from any thread. `clock` turns
    traces into local times; `time_us` reads the local clock after decoding. `n_codebooks` is what
    the model has."""

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
        music: Music | None = None,
    ) -> None:
        self.latency = LatencyLog()
        """Of all speakers together; per speaker see `latency_of`."""
        self.traffic = Traffic(sample_rate)
        """Of all speakers together; per speaker see `stats`."""
        self.packets_dropped = 0
        """Packets that found the queue between the threads full, or no room for another speaker."""
        self._make_decoder, self._hop, self._sample_rate = make_decoder, hop, sample_rate
        self._n_codebooks, self._max_sources = n_codebooks, max_sources
        self._clock, self._time_us = clock, time_us
        self.music = music
        """Takes the windows of other models; what is heard of them is not in `pull`."""
        self._waiting: deque[_Arrived | _Told] = deque()
        self._speakers: dict[int, _Speaker] = {}
        self._departed: OrderedDict[int, tuple[SourceStats, LatencyLog]] = OrderedDict()

    # Called by the thread that has the socket

    def put(self, message: bytes, now_us: int) -> None:
        """A binary message that arrived at `now_us`. Raises ProtocolError, and takes nothing of it,
        if it is malformed or has more codebooks than the model."""
        self.take(decode_down(message), len(message), now_us)

    def take(self, packets: Sequence[Packet | CodedPacket | PcmBlock], size: int, now_us: int) -> None:
        """The same of a message of `size` bytes that has been taken apart."""
        if any(isinstance(packet, CodedPacket) for packet in packets):
            raise ProtocolError("an entropy-coded packet came, and no language model was agreed on")
        windows = [packet for packet in packets if isinstance(packet, Packet) and packet.scale is not None]
        frames = [part for part in packets if not isinstance(part, CodedPacket) and part not in windows]
        arrived = [self._arrived(packet, now_us) for packet in frames]
        self._put_windows(windows, size if not arrived else 0, now_us)
        for index, packet in enumerate(arrived):
            samples = sum(count for _, count in packet.frames)
            self.traffic.add(now_us, len(packet.frames), samples, packet.codec_bits, 0 if index else size)
            self._append(packet)

    def _put_windows(self, windows: list[Packet], message_bytes: int, now_us: int) -> None:
        for index, packet in enumerate(windows):
            if self.music is None:
                raise ProtocolError("a window came and this client named no model for it")
            samples = self.music.put(packet, now_us) * self._sample_rate // self.music.sample_rate
            size = 0 if index else message_bytes
            self.traffic.add(now_us, packet.frames, samples, packet.n_q * packet.frames * BITS, size)

    def peer_muted(self, source: int, muted: bool) -> None:
        """Its silence is no underrun while it is muted."""
        self._append(_Told(source, muted))

    def peer_left(self, source: int) -> None:
        """What there is of it is still played."""
        self._append(_Told(source, None))

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
        """The next `n` samples of the mix, float32 in -1..1, taken at `now_us`; the first is heard
        at `heard_us`."""
        self._drain(now_us)
        mix = np.zeros(n, np.float32)
        for source, speaker in list(self._speakers.items()):
            block = speaker.playout.pull(n, now_us)
            mix += block.pcm
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
                if speaker is not None:
                    speaker.left = item.silent is None
                    speaker.playout.announce_silence(item.silent is not False)
            elif item is not None:
                self._take(item, now_us)

    def _take(self, packet: _Arrived, now_us: int) -> None:
        speaker = self._speakers.get(packet.source)
        if speaker is None:
            if len(self._speakers) >= self._max_sources and not self._make_room():
                self.packets_dropped += 1
                return
            playout = Playout(self._make_decoder, self._hop, self._sample_rate, self._time_us)
            speaker = self._speakers[packet.source] = _Speaker(playout, Traffic(self._sample_rate))
        speaker.last_us = now_us
        samples = sum(count for _, count in packet.frames)
        speaker.traffic.add(packet.arrival_us, len(packet.frames), samples, packet.codec_bits, 0)
        speaker.playout.jitter.put(packet.sequence, packet.timestamp, packet.frames, packet.arrival_us, packet.path)

    def _make_room(self) -> bool:
        """Retires the speaker that has been silent longest; False if all are talking."""
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
            captured = frame.capture_us + place * 1e6 / self._sample_rate
            heard = heard_us + index * 1e6 / self._sample_rate
            # What was decoded ahead and waited for this pull did so in the jitter buffer's stead.
            ahead = max(now_us - frame.decoded_us, 0)
            taken, decoded = frame.taken_us + ahead, frame.decoded_us + ahead
            stages = frame.path.stages(captured, frame.arrival_us, taken, decoded, heard)
            self.latency.add(heard, stages)
            log.add(heard, stages)

    def _meter(self, speaker: _Speaker, n: int) -> None:
        level = speaker.playout.level
        dbfs = 20 * float(np.log10(level)) if level > 0 else SILENCE_DBFS
        fallen = speaker.level_dbfs - LEVEL_FALL_DB_PER_S * n / self._sample_rate
        speaker.level_dbfs = max(dbfs, fallen, SILENCE_DBFS)

    # Figures

    def stats(self) -> dict[int, SourceStats]:
        """Of every speaker by peer id, those that left included."""
        speakers = dict(self._speakers)
        departed = {source: figures for source, (figures, _) in self._departed.copy().items()}
        heard = departed | {source: self._figures(speaker) for source, speaker in speakers.items()}
        players = self.music.speakers.copy() if self.music else {}
        return heard | {source: _music_figures(each) for source, each in players.items() if each.frames_received}

    def latency_of(self, source: int) -> LatencyLog | None:
        """Of one speaker, also after it left; None for one that never spoke."""
        if (speaker := self._speakers.get(source)) is not None:
            return speaker.latency
        if self.music and (player := self.music.speakers.get(source)) is not None:
            return player.latency
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


def _music_figures(speaker: MusicSpeaker) -> SourceStats:
    playout, model = speaker.playout, speaker.decodable.model
    return SourceStats(
        frames_received=speaker.frames_received,
        frames_played=playout.frames_played,
        frames_waiting=playout.frames_waiting,
        frames_missing=speaker.frames_missing,
        frames_late=speaker.frames_late,
        frames_overflow=playout.frames_overflow + speaker.frames_dropped,
        underruns=playout.underruns,
        samples_compressed=playout.samples_skipped,
        samples_silent=playout.samples_silent,
        playout_delay_ms=playout.delay_us / 1000,
        target_delay_ms=playout.target_us / 1000,
        level_dbfs=max(20 * float(np.log10(playout.level)), SILENCE_DBFS) if playout.level > 0 else SILENCE_DBFS,
        codec_kbps=speaker.traffic.recent_codec_kbps,
        codec_kbps_total=speaker.traffic.codec_kbps,
        sample_rate=model.sample_rate,
        codec_latency_ms=model.latency_s * 1000,
    )
