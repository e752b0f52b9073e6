"""Which rooms are recorded, since when and until when, and who is told. For the event loop; the
disk is elsewhere."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from earshot.codec.config import ModelConfig
from earshot.codec.errors import UsageError
from earshot.protocol.messages import Record, Recording
from earshot.protocol.packet import Packet
from earshot.recording.format import Event, Header, clamp_ticks
from earshot.server.audit import Audit
from earshot.server.core.guests import Speaker
from earshot.server.core.recording_buffer import RecordingBuffer
from earshot.server.core.room import Peer
from earshot.server.recording.writer import RecordingFile, Writer
from earshot.server.settings import Settings

log = logging.getLogger(__name__)

FLUSH_S = 0.7
"""Time between two writes. What a killed server loses is this and what a write takes; a record
costs 20 bytes, so that writing twice as often would add 0.1 MB an hour to each speaker."""
AGAIN_US = 5_000_000
"""Least time from the beginning of a recording to the next of the same room: everyone is told of
each. In so long no more begin, on the whole server, than may go on at once: a room that empties and
fills again is a new one, and each is a file."""
WARN_US = 10_000_000
"""Least time between two warnings that rooms are not recorded, so that nobody fills the log by
making rooms."""


class Refused(Exception):  # noqa: N818 -- an answer, not a fault
    """There can be no recording now; the message says why."""


class Recorder:
    """What the recordings of one server share. Without a folder it records nothing, and has no
    thread."""

    def __init__(
        self,
        config: ModelConfig,
        digest: str,
        settings: Settings,
        clock_us: Callable[[], int],
        audit: Audit | None = None,
    ) -> None:
        """Raises UsageError for settings that cannot be followed."""
        self.config, self.digest, self.settings, self.clock_us = config, digest, settings, clock_us
        self.audit = audit or Audit(settings.audit_lines_per_second)
        self._patterns = [pattern.strip() for pattern in settings.record_rooms.split(",") if pattern.strip()]
        self.max_n_q: int | None = None
        self.writer: Writer | None = None
        self.active: set[RoomRecorder] = set()
        self.waiting: dict[RoomRecorder, str] = {}
        """Rooms that should always be recorded and are not, the longest wait first, and why."""
        self._warned_us: int | None = None
        self.begun = 0
        self._lately: deque[int] = deque(maxlen=settings.record_max_at_once)
        """When the latest began."""
        self.given_up = 0
        self.frames_lost = 0
        self._flushing: asyncio.Task[None] | None = None
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        if not self._patterns and not settings.record_on_request:
            return
        if settings.record_max_kbps is not None:
            self.max_n_q = config.n_q_at_most(settings.record_max_kbps)
            if not self.max_n_q:
                raise UsageError(
                    f"EARSHOT_RECORD_MAX_KBPS={settings.record_max_kbps:g} is less than one codebook of {config.name} "
                    f"({config.kbps_per_codebook:g} kbps)"
                )
        folder = settings.record_to
        if folder is None:
            raise UsageError("rooms are to be recorded, but nothing says where: name a folder with --record-to")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"recordings cannot go to {folder}: {error.strerror or error}") from error
        if not os.access(folder, os.W_OK):
            raise UsageError(f"recordings cannot go to {folder}: it is not writeable; choose another --record-to")
        self.writer = Writer(folder, settings)

    async def start(self) -> None:
        if self.writer is not None:
            self._loop = asyncio.get_running_loop()
            self.writer.start()
            self._flushing = asyncio.create_task(self._flush())

    async def stop(self) -> None:
        """Ends every recording, and returns once they are on disk or that takes too long."""
        if self.writer is None:
            return
        self._stopping = True
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        for room in list(self.active):
            room.end("the server shut down")
        await asyncio.to_thread(self.writer.stop)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            for work in (*(room.flush for room in self.active), *(room.retry for room in self.waiting)):
                try:
                    work()
                except Exception:
                    log.exception("the recording of a room failed")
            if self.writer is not None and self.writer.dead:
                for room in list(self.active):
                    room.give_up(str(self.writer.obstacle))
            self._warn()

    def faults(self) -> list[str]:
        """Returns why recordings do not get to disk, limits of this server aside. May be called on
        any thread."""
        faults = [] if self.writer is None else self.writer.faults()
        if self._flushing is not None and self._flushing.done() and not self._stopping:
            faults.append("what hands recordings to the disk has ended")
        return faults

    def _warn(self) -> None:
        now_us = self.clock_us()
        alarm = self.alarm()
        if alarm is not None and (self._warned_us is None or now_us - self._warned_us >= WARN_US):
            self._warned_us = now_us
            log.warning("%s", alarm)

    def alarm(self) -> str | None:
        """Returns what the operator should know: rooms that should be recorded are not. None if
        there are none."""
        if not self.waiting:
            return None
        count, reasons = len(self.waiting), sorted(set(self.waiting.values()))
        rooms = (
            "1 room that should be recorded is not" if count == 1 else f"{count} rooms that should be recorded are not"
        )
        return f"{rooms}: {'; '.join(reasons)}"

    def always(self, room: str) -> bool:
        """Returns whether this room is recorded without being asked."""
        return any(fnmatchcase(room, pattern) for pattern in self._patterns)

    def open(self, room: str, ended: Callable[[RecordingFile, str], None]) -> RecordingFile:
        """Opens a file for a recording that begins now. `ended` is called on the event loop if the
        writer gives it up.

        Raises Refused."""
        if len(self.active) >= self.settings.record_max_at_once:
            raise Refused("this server records as many rooms as it may")
        now_us = self.clock_us()
        if len(self._lately) == self._lately.maxlen and now_us - self._lately[0] < AGAIN_US:
            raise Refused(f"too many recordings began just now; wait {AGAIN_US // 1_000_000} s")
        now = datetime.now(UTC)
        header = Header(
            room=room,
            model=self.config.name,
            digest=self.digest,
            sample_rate=self.config.sample_rate,
            hop_length=self.config.hop_length,
            n_codebooks=self.config.n_codebooks,
            began=now.isoformat(timespec="milliseconds"),
            max_kbps=self.settings.record_max_kbps,
            salt=secrets.randbits(32),
        )

        def tell(reason: str) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody is left to hear of it
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(ended, file, reason)

        file = RecordingFile(f"{room}-{now:%Y%m%dT%H%M%SZ}", header, tell)
        self.begun += 1
        self._lately.append(now_us)
        return file

    def stats(self) -> dict[str, Any]:
        """Returns what `/stats` shows: no names of rooms or files."""
        writer = self.writer
        return {
            "active": len(self.active),
            "not_recorded": len(self.waiting),
            "alarm": self.alarm(),
            "begun": self.begun,
            "given_up": self.given_up,
            "frames_lost": self.frames_lost,
            "bytes_waiting": writer.bytes_waiting if writer else 0,
            "bytes_written": writer.bytes_written if writer else 0,
            "slowest_write_ms": round(writer.slowest_write_ms, 3) if writer else 0.0,
        }


class RoomRecorder:
    """The recording of one room, if there is one. `tell` sends to everyone in it."""

    def __init__(self, recorder: Recorder, room: str, tell: Callable[[Recording], None]) -> None:
        self._recorder, self._room, self._tell = recorder, room, tell
        self._buffer: RecordingBuffer | None = None
        self._file: RecordingFile | None = None
        self._began_us: int | None = None
        self._peers: Collection[Peer] = ()
        """Everyone in the room, kept up to date by the room itself."""
        self._guests: Collection[Speaker] = ()
        """The same of those who are there by way of another node."""

    @property
    def on(self) -> bool:
        return self._buffer is not None

    @property
    def missing(self) -> str | None:
        """Returns why the room is not recorded though it always should be; None if that is not
        so."""
        return self._recorder.waiting.get(self)

    def entered(self, peer: Peer, peers: Collection[Peer], guests: Collection[Speaker] = ()) -> None:
        """Notes that a peer is in the room; with the first one some rooms are recorded. Its welcome
        says so, not `tell`. `peers` and `guests` must stay up to date while the room lives."""
        self._peers, self._guests = peers, guests
        if self.on:
            self._joined(peer)
        elif self._recorder.always(self._room):
            self.retry()

    def retry(self) -> None:
        """Begins the recording of a room that should always be recorded, or notes why it cannot.
        The room is told the first reason; `missing` has the latest."""
        try:
            self._begin(self._peers)
        except Refused as refused:
            if self.missing is None:
                self._audit("missing", reason=str(refused))
                self._tell(Recording(on=False, reason=str(refused)))
            self._recorder.waiting[self] = str(refused)

    def ask(self, message: Record, peer: Peer, peers: Iterable[Peer]) -> Recording | None:
        """Begins or ends the recording, because a peer wants that. Everyone is told if it does;
        else this returns the answer."""
        try:
            if not self._recorder.settings.record_on_request:
                raise Refused("this server does not record because somebody asks")
            if not peer.grants.record:
                raise Refused("your token does not allow to begin or end recordings")
            if message.on and not self.on:
                self._begin(peers, peer)
                return None
            if not message.on and self.on:
                if self._recorder.always(self._room):
                    raise Refused("this room is always recorded")
                self.end(f"{peer.name or f'peer {peer.id}'} ended it", peer)
                return None
        except Refused as refused:
            self._audit("refused", peer, str(refused))
            return Recording(on=self.on, reason=str(refused))
        return Recording(on=self.on)

    def _begin(self, peers: Iterable[Peer], by: Peer | None = None) -> None:
        recorder, now = self._recorder, self._recorder.clock_us()
        if recorder.writer is not None and (obstacle := recorder.writer.obstacle) is not None:
            raise Refused(obstacle)
        if by is not None and recorder.waiting:
            raise Refused("rooms that are always recorded wait for their turn, and come first")
        if self._began_us is not None and now - self._began_us < AGAIN_US:
            raise Refused(f"a recording began just now; wait {AGAIN_US // 1_000_000} s")
        self._file = recorder.open(self._room, self._given_up)
        self._buffer = RecordingBuffer(recorder.config, now, recorder.max_n_q)
        self._began_us = now
        recorder.active.add(self)
        recorder.waiting.pop(self, None)
        for peer in (*peers, *self._guests):
            self._joined(peer)
        self._audit("started", by)
        self._tell(Recording(on=True, by=by.id if by else None))

    def end(self, reason: str, by: Peer | None = None) -> None:
        """Ends it, if there is one, and tells everyone. No other follows of itself."""
        self._recorder.waiting.pop(self, None)
        writer, file = self._recorder.writer, self._file
        if self._buffer is None or writer is None or file is None:
            return
        self._write()
        at = max(0, self._recorder.clock_us() - (self._began_us or 0))
        writer.end(file, Event(type="ended", at=clamp_ticks(at), reason=reason))
        self._forget(reason, by)

    def _given_up(self, file: RecordingFile, reason: str) -> None:
        """Forgets a file that the writer gave up: the disk is full, or a limit is reached."""
        if file is self._file:
            self.give_up(reason)

    def give_up(self, reason: str) -> None:
        """Ends a recording whose file can no longer be written. Where the room should always be
        recorded, another begins as soon as it can."""
        self._recorder.given_up += 1
        self._forget(reason)
        self._await_next(reason)

    def _await_next(self, reason: str) -> None:
        """Notes that the recording of a room that should always be recorded has ended early, so
        that the next flush begins another. Its peers know why."""
        if self._peers and self._recorder.always(self._room):
            self._recorder.waiting[self] = reason

    def _forget(self, reason: str, by: Peer | None = None) -> None:
        self._buffer = self._file = None
        self._recorder.active.discard(self)
        self._audit("ended", by, reason)
        self._tell(Recording(on=False, by=by.id if by else None, reason=reason))

    def _audit(self, what: str, peer: Peer | None = None, reason: str | None = None) -> None:
        peer_id = None if peer is None else peer.id
        self._recorder.audit.note("recording", what=what, room=self._room, peer=peer_id, reason=reason)

    # What happens in the room

    def _joined(self, peer: Speaker) -> None:
        other = "" if peer.model is None else f"what {peer.model.name} makes is not recorded"
        self._note(Event(type="joined", at=0, peer=peer.id, name=peer.name, reason=other))
        if peer.muted:
            self.muted(peer)

    def met(self, guest: Speaker) -> None:
        """Notes that somebody is in the room by way of another node."""
        if self.on:
            self._joined(guest)

    def left(self, peer: Peer) -> None:
        self.gone(peer.id)

    def gone(self, peer_id: int) -> None:
        """Notes that somebody has left."""
        self._note(Event(type="left", at=0, peer=peer_id))

    def muted(self, peer: Speaker) -> None:
        self._note(Event(type="muted" if peer.muted else "unmuted", at=0, peer=peer.id))

    def _note(self, event: Event) -> None:
        if self._buffer is not None:
            self._buffer.note(event, self._recorder.clock_us())

    def spoke(self, peer: Speaker, packet: Packet, now_us: int) -> None:
        """Windows of other models than the room's are not recorded; it says so where such a peer
        joins."""
        if self._buffer is not None and peer.model is None:
            self._buffer.add(peer.id, packet, now_us)

    def flush(self) -> None:
        """Hands on to the disk what has come."""
        self._write()
        hours = self._recorder.settings.record_max_hours
        if self._recorder.clock_us() - (self._began_us or 0) > hours * 3600e6:
            reason = f"it is {hours:g} hours long, and no recording may be longer"
            self.end(reason)
            self._await_next(reason)

    def _write(self) -> None:
        buffer, writer, file = self._buffer, self._recorder.writer, self._file
        if buffer is None or writer is None or file is None:
            return
        batch = buffer.take(self._recorder.clock_us())
        if batch is not None and not writer.put(file, batch):
            self._recorder.frames_lost += batch.frames
            buffer.give_back(batch)
