"""What waits for one listener, bounded by age (docs/protocol.md, "Slow listeners"). No clock, no
socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from earshot.codec.bitstream import pack, unpack
from earshot.protocol.packet import MAX_FRAMES, Packet, PcmBlock
from earshot.protocol.sequence import SEQUENCE_MODULUS, TIMESTAMP_MODULUS

Media = Packet | PcmBlock

ACTIVE_US = 500_000
"""A speaker that sent nothing for so long is not waited for."""
MAX_WAITING = 256
"""Packets of one speaker at most, should many come at once; more than any allowed burst of
audio."""
MAX_JOINED_SAMPLES = 8000


@dataclass(frozen=True)
class DegradationPolicy:
    """Ages, in microseconds, of what waits, from which on more and more is saved."""

    join_us: int = 40_000
    cut_to_4_us: int = 120_000
    cut_to_2_us: int = 190_000
    drop_us: int = 250_000
    recover_us: int = 1_000_000
    """Calm that it takes to climb up one rung again, so that a listener at its limit does not
    swing."""

    def rung(self, age_us: int) -> int:
        """Returns what is done at such an age. 0: media go as they are; 1: they are joined; 2: cut
        to 4 codebooks; 3: cut to 2."""
        if age_us < self.join_us:
            return 0
        return sum(age_us >= limit for limit in (self.join_us, self.cut_to_4_us, self.cut_to_2_us))


CODEBOOKS_AT_RUNG = {2: 4, 3: 2}


class _Waiting(NamedTuple):
    since_us: int
    media: Media


class SendQueue:
    """Media for one listener, by speaker. `put` as it comes, `take` when the socket can have
    more."""

    def __init__(self, hop: int, frame_us: int, degradation: DegradationPolicy | None = None) -> None:
        self._hop = hop
        self._frame_us = frame_us
        self._degradation = degradation or DegradationPolicy()
        self._waiting: dict[int, deque[_Waiting]] = {}
        self._heard_us: dict[int, int] = {}
        self._rung = 0
        self._rung_us = 0
        self.frames_sent = 0
        self.frames_dropped = 0
        self.codebooks_cut = 0
        self.largest_age_us = 0

    def put(self, media: Media, now_us: int) -> None:
        """Adds what a speaker said; drops, and counts, what has become too old."""
        waiting = self._waiting.setdefault(media.source, deque())
        waiting.append(_Waiting(now_us, media))
        if not _is_window(media):  # the next one comes in a second, and nobody waits for it
            self._heard_us[media.source] = now_us
        if len(waiting) > MAX_WAITING:
            self._drop(waiting)
        if len(waiting) > 1 or len(self._waiting) > 1:  # what came just now is not old
            self._drop_old(now_us)

    def forget(self, source: int) -> None:
        """Notes that a speaker left: what waits of it still goes out, but it is not waited for."""
        self._heard_us.pop(source, None)

    def age_us(self, now_us: int) -> int:
        """Returns the age of the oldest packet that waits; 0 if none does."""
        oldest = self._oldest_us()
        return 0 if oldest is None else now_us - oldest

    def _oldest_us(self) -> int | None:
        """Returns since when the oldest packet waits, None if none does."""
        oldest: int | None = None
        for waiting in self._waiting.values():
            since = waiting[0].since_us
            if oldest is None or since < oldest:
                oldest = since
        return oldest

    def due_us(self, now_us: int) -> int | None:
        """Returns when the next message should go; None while nothing waits.

        That is at once if everyone who speaks has something in it, else when the oldest packet has
        waited for one frame: so a lone speaker waits for nobody, and a crowd of any size costs its
        listener one message a frame."""
        oldest = self._oldest_us()
        if oldest is None:
            return None
        for source, heard in self._heard_us.items():
            if source not in self._waiting and now_us - heard < ACTIVE_US:
                return oldest + self._frame_us
        return oldest

    def take(self, now_us: int) -> list[Media]:
        """Returns what goes into one message now: at most one packet or block a speaker, its
        oldest, joined or cut as the age of what waits asks for. Traces get the time as
        `relayed`."""
        age = self.age_us(now_us)
        if age > self._degradation.drop_us:
            self._drop_old(now_us)
            age = self.age_us(now_us)
        rung = self._settle(age, now_us)
        message: list[Media] = []
        for source, waiting in list(self._waiting.items()):
            media = waiting.popleft().media
            if rung:
                parts = [media]
                while waiting and _follows(parts, waiting[0].media, self._hop):
                    parts.append(waiting.popleft().media)
                media = self._cut(_joined(parts), rung)
            if not waiting:
                del self._waiting[source]
            self.frames_sent += frames_of(media, self._hop)
            message.append(_relayed(media, now_us))
        return message

    def _settle(self, age: int, now_us: int) -> int:
        """Steps down the degradation at once, and up one rung after each stretch of calm."""
        self.largest_age_us = max(self.largest_age_us, age)
        rung = self._degradation.rung(age)
        if rung >= self._rung:
            self._rung, self._rung_us = rung, now_us
        elif now_us - self._rung_us >= self._degradation.recover_us:
            self._rung, self._rung_us = self._rung - 1, now_us
        return self._rung

    def _cut(self, media: Media, rung: int) -> Media:
        keep = CODEBOOKS_AT_RUNG.get(rung)
        if keep is None or isinstance(media, PcmBlock) or media.n_q <= keep:
            return media
        self.codebooks_cut += (media.n_q - keep) * media.frames
        return media.cut(keep)

    def _drop_old(self, now_us: int) -> None:
        too_old = now_us - self._degradation.drop_us
        for source, waiting in list(self._waiting.items()):
            while waiting and waiting[0].since_us < too_old:
                self._drop(waiting)
            if not waiting:
                del self._waiting[source]

    def _drop(self, waiting: deque[_Waiting]) -> None:
        self.frames_dropped += frames_of(waiting.popleft().media, self._hop)


def frames_of(media: Media, hop: int) -> int:
    return media.frames if isinstance(media, Packet) else len(media.data) // 2 // hop


def _is_window(media: Media) -> bool:
    return isinstance(media, Packet) and media.scale is not None


def _follows(parts: Sequence[Media], following: Media, hop: int) -> bool:
    """Returns whether one packet can hold `following` too: the very next frames, of the same shape,
    within the limits."""
    last, frames = parts[-1], sum(frames_of(part, hop) for part in parts) + frames_of(following, hop)
    if isinstance(last, Packet) != isinstance(following, Packet) or _is_window(last) or _is_window(following):
        return False
    count = frames_of(last, hop)
    if (last.sequence + count) % SEQUENCE_MODULUS != following.sequence:
        return False
    if (last.timestamp + count * hop) % TIMESTAMP_MODULUS != following.timestamp:
        return False
    if isinstance(last, Packet) and isinstance(following, Packet):
        return last.n_q == following.n_q and frames <= MAX_FRAMES
    return frames * hop <= MAX_JOINED_SAMPLES


def _joined(parts: Sequence[Media]) -> Media:
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, PcmBlock):
        return first._replace(data=b"".join(part.data for part in parts if isinstance(part, PcmBlock)))
    packets = [part for part in parts if isinstance(part, Packet)]
    codes = np.concatenate([unpack(p.payload, p.n_q, p.frames) for p in packets], axis=1)
    return first._replace(frames=codes.shape[1], payload=pack(codes))


def _relayed(media: Media, now_us: int) -> Media:
    if media.trace is None:
        return media
    trace = media.trace.relayed_at(now_us)
    return media.of(media.source, trace) if isinstance(media, Packet) else media._replace(trace=trace)
