"""What waits for one listener, bounded by age (docs/protocol.md, "Slow listeners"). No clock, no
socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from earshot.codec.bitstream import join
from earshot.protocol.packet import MAX_FRAMES, TRACE_TICK_US, Packet, PcmBlock, Trace
from earshot.protocol.sequence import CLOCK_MODULUS, SEQUENCE_MODULUS, TIMESTAMP_MODULUS
from earshot.protocol.silence import Silence

Media = Packet | PcmBlock | Silence

ACTIVE_US = 500_000
"""A speaker that sent nothing for so long is not waited for."""
MAX_WAITING = 512
"""Packets of one speaker at most, should many come at once; more than any allowed burst of
audio."""
MAX_JOINED_SAMPLES = 8000
MORE_FRAMES_US = 500_000
"""Where a listener asks for more frames in a message, there is one more each time so long has gone
by: so its jitter buffer grows before it must."""


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
    more. A message holds `frames` frames of each speaker where they follow on each other, and
    waits for them, but no longer than so many frames last."""

    def __init__(self, hop: int, frame_us: int, degradation: DegradationPolicy | None = None, frames: int = 1) -> None:
        self._hop = hop
        self._frame_us = frame_us
        self._frames = self._wanted_frames = frames
        self._more_us = 0
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
        if isinstance(media, Silence):
            self.forget(media.source)
        elif not _is_window(media):  # the next one comes in a second, and nobody waits for it
            self._heard_us[media.source] = now_us
        if len(waiting) > MAX_WAITING:
            self._drop(waiting)
        if len(waiting) > 1 or len(self._waiting) > 1:  # what came just now is not old
            self._drop_old(now_us)

    def forget(self, source: int) -> None:
        """Notes that a speaker left or is silent: what waits of it still goes out, but nothing more
        is waited for."""
        self._heard_us.pop(source, None)

    def restart(self, frames: int) -> None:
        """Begins anew, empty, for a listener that wants so many frames in a message."""
        self._frames = self._wanted_frames = frames
        self._waiting.clear()
        self._heard_us.clear()
        self._rung = 0

    def set_frames(self, frames: int) -> None:
        """Changes how many frames a message should hold: fewer at once, more one by one."""
        self._wanted_frames, self._frames = frames, min(self._frames, frames)

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

        That is at once if everyone who speaks has as many frames in it as there should be, else
        when the oldest packet has waited for so many: so a lone speaker waits for nobody, and a
        crowd of any size costs its listener one message a frame, or less."""
        oldest = self._oldest_us()
        if oldest is None:
            return None
        for source, heard in self._heard_us.items():
            if now_us - heard < ACTIVE_US and not self._is_full(source):
                return oldest + self._frames * self._frame_us
        return oldest

    def _is_full(self, source: int) -> bool:
        """Returns whether one more packet like the last one of a speaker would be too many."""
        waiting = self._waiting.get(source)
        if waiting is None:
            return False
        if self._frames == 1:
            return True
        frames = sum(frames_of(each.media, self._hop) for each in waiting)
        return frames + frames_of(waiting[-1].media, self._hop) > self._frames

    def take(self, now_us: int) -> list[Media]:
        """Returns what goes into one message now: at most one packet or block a speaker, its
        oldest, joined or cut as the age of what waits asks for. Traces get the time as
        `relayed`."""
        age = self.age_us(now_us)
        if age > self._degradation.drop_us + self._meant_us:
            self._drop_old(now_us)
            age = self.age_us(now_us)
        rung = self._settle(age, now_us)
        most = MAX_FRAMES if rung else self._frames
        message: list[Media] = []
        for source, waiting in list(self._waiting.items()):
            media = waiting.popleft().media
            if most > 1:
                parts = [media]
                while waiting and _follows(parts, waiting[0].media, self._hop, most):
                    parts.append(waiting.popleft().media)
                media = self._cut(_joined(parts, self._frame_us, self._hop), rung)
            if not waiting:
                del self._waiting[source]
            self.frames_sent += frames_of(media, self._hop)
            message.append(_relayed(media, now_us))
        return message

    @property
    def _meant_us(self) -> int:
        """How long packets wait because the listener asked for it."""
        return (self._frames - 1) * self._frame_us

    def _settle(self, age: int, now_us: int) -> int:
        """Steps down the degradation at once, and up one rung after each stretch of calm. Then
        joins one more frame where the listener asked for more."""
        self.largest_age_us = max(self.largest_age_us, age)
        rung = self._degradation.rung(age - self._meant_us)
        if self._frames < self._wanted_frames and now_us - self._more_us >= MORE_FRAMES_US:
            self._frames, self._more_us = self._frames + 1, now_us
        if rung >= self._rung:
            self._rung, self._rung_us = rung, now_us
        elif now_us - self._rung_us >= self._degradation.recover_us:
            self._rung, self._rung_us = self._rung - 1, now_us
        return self._rung

    def _cut(self, media: Media, rung: int) -> Media:
        keep = CODEBOOKS_AT_RUNG.get(rung)
        if keep is None or not isinstance(media, Packet) or media.n_q <= keep:
            return media
        self.codebooks_cut += (media.n_q - keep) * media.frames
        return media.cut(keep)

    def _drop_old(self, now_us: int) -> None:
        too_old = now_us - self._degradation.drop_us - self._meant_us
        for source, waiting in list(self._waiting.items()):
            while waiting and waiting[0].since_us < too_old:
                self._drop(waiting)
            if not waiting:
                del self._waiting[source]

    def _drop(self, waiting: deque[_Waiting]) -> None:
        self.frames_dropped += frames_of(waiting.popleft().media, self._hop)


def frames_of(media: Media, hop: int) -> int:
    if isinstance(media, Packet):
        return media.frames
    return len(media.data) // 2 // hop if isinstance(media, PcmBlock) else 0


def _is_window(media: Media) -> bool:
    return isinstance(media, Packet) and media.scale is not None


def _follows(parts: Sequence[Media], following: Media, hop: int, most: int) -> bool:
    """Returns whether one packet of `most` frames can hold `following` too: the very next frames,
    of the same shape, within the limits."""
    last, frames = parts[-1], sum(frames_of(part, hop) for part in parts) + frames_of(following, hop)
    if isinstance(last, Silence) or isinstance(following, Silence) or frames > most:
        return False
    if isinstance(last, Packet) != isinstance(following, Packet) or _is_window(last) or _is_window(following):
        return False
    count = frames_of(last, hop)
    if (last.sequence + count) % SEQUENCE_MODULUS != following.sequence:
        return False
    if (last.timestamp + count * hop) % TIMESTAMP_MODULUS != following.timestamp:
        return False
    if isinstance(last, Packet) and isinstance(following, Packet):
        return last.n_q == following.n_q
    return frames * hop <= MAX_JOINED_SAMPLES


def _joined(parts: Sequence[Media], frame_us: int, hop: int) -> Media:
    first = parts[0]
    if len(parts) == 1 or isinstance(first, Silence):
        return first
    trace = _first_trace(parts, frame_us, hop)
    if isinstance(first, PcmBlock):
        data = b"".join(part.data for part in parts if isinstance(part, PcmBlock))
        return first._replace(data=data, trace=trace)
    packets = [part for part in parts if isinstance(part, Packet)]
    payload = _joined_codes(tuple((each.payload, each.frames) for each in packets), first.n_q)
    return first._replace(frames=sum(each.frames for each in packets), payload=payload, trace=trace)


@lru_cache(maxsize=1024)
def _joined_codes(parts: tuple[tuple[bytes, int], ...], n_q: int) -> bytes:
    """Joins packed codes. All listeners of a speaker get the same ones, so the last are kept."""
    return join(parts, n_q)


def _first_trace(parts: Sequence[Media], frame_us: int, hop: int) -> Trace | None:
    """Returns the first trace that there is, moved back to the first frame."""
    earlier_us = 0
    for part in parts:
        if part.trace is not None:
            capture_us, framed, *later = part.trace
            moved = [min(at + earlier_us // TRACE_TICK_US, 0xFFFF) if at else 0 for at in later]
            return Trace((capture_us - earlier_us) % CLOCK_MODULUS, framed, *moved)
        earlier_us += frames_of(part, hop) * frame_us
    return None


def _relayed(media: Media, now_us: int) -> Media:
    if isinstance(media, Silence) or media.trace is None:
        return media
    trace = media.trace.relayed_at(now_us)
    return media.of(media.source, trace) if isinstance(media, Packet) else media._replace(trace=trace)
