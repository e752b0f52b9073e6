"""Describes a recording: what it holds and what is missing. It is read once from end to end, in
constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from earshot.codec.errors import AudioError
from earshot.recording.format import MAGIC, TICK_US, Damage, Event, Header, Item, Reader, Spoken

PIECE = 1 << 16
MAX_DAMAGES = 20
"""Most damaged places that are listed one by one."""


@dataclass
class Speaker:
    """One peer of the recording. Times are seconds after its beginning."""

    id: int
    name: str = ""
    joined_s: float | None = None
    left_s: float | None = None
    """Time at which the peer left; None if it stayed to the end."""
    remark: str = ""
    """Note of the server about this peer."""
    first_s: float | None = None
    """Start of its first sound."""
    last_s: float | None = None
    records: int = 0
    frames: int = 0
    code_bytes: int = 0


@dataclass
class Damaged:
    """Bytes of the file that are not a record, and the second of the recording that they follow."""

    at: int
    size: int
    after_s: float


@dataclass
class Description:
    """A recording in figures, and in sentences for people."""

    path: Path
    header: Header
    size: int
    """Bytes that were read."""
    seconds: float = 0.0
    speakers: dict[int, Speaker] = field(default_factory=dict)
    damages: list[Damaged] = field(default_factory=list)
    """The first MAX_DAMAGES damaged places."""
    damage_count: int = 0
    damaged_bytes: int = 0
    frames_lost: int = 0
    """Frames that the server could not write in time."""
    ended: str | None = None
    """Reason of its end; None if the end is missing, because the server was killed or is still
    recording."""

    def seconds_of(self, speaker: Speaker) -> float:
        """Returns how many seconds of sound a speaker has."""
        return speaker.frames * self.header.hop_length / self.header.sample_rate

    def kbps_of(self, speaker: Speaker) -> float:
        """Returns a speaker's mean codec rate while it spoke."""
        seconds = self.seconds_of(speaker)
        return speaker.code_bytes * 8 / seconds / 1000 if seconds else 0.0

    def facts(self) -> list[str]:
        """Returns what there is to say of the recording as a whole: lines that fit 80 columns."""
        header = self.header
        limit = f", at most {header.max_kbps:g} kbps a speaker" if header.max_kbps else ""
        return [
            f"recording of {header.room}",
            f"begun {header.began}",
            f"{clock(self.seconds)} long, {self.size} bytes",
            f"codes of {header.model} ({header.digest}){limit}",
        ]

    def remarks(self) -> list[str]:
        """Returns notes on its speakers and on the recording, a sentence per line."""
        speakers = [speaker for speaker in self.speakers.values() if speaker.remark]
        said = [f"{speaker.name or f'peer {speaker.id}'}: {speaker.remark}" for speaker in speakers]
        return said + self.faults()

    def faults(self) -> list[str]:
        """Returns what is missing and where, a sentence per line."""
        said = [f"damaged: {d.size} bytes at byte {d.at}, after {clock(d.after_s)}" for d in self.damages]
        if self.damage_count > len(self.damages):
            said.append(f"and {self.damage_count - len(self.damages)} more places")
        if self.damage_count:
            share = 100 * (self.size - self.damaged_bytes) / self.size
            said.append(f"{share:.2f} % of its bytes are good; the rest is silence")
        if self.frames_lost:
            lost_s = self.frames_lost * self.header.hop_length / self.header.sample_rate
            said.append(f"{lost_s:.1f} s are missing: the server's disk was too slow")
        if self.ended is None:
            said.append(
                f"it has no end: the server was killed, or is still recording; saved up to {clock(self.seconds)}"
            )
        return said


def clock(seconds: float) -> str:
    """Formats seconds as 1:02:03.4."""
    tenths = round(max(seconds, 0) * 10)
    return f"{tenths // 36000}:{tenths // 600 % 60:02d}:{tenths % 600 / 10:04.1f}"


def is_recording(source: Path) -> bool:
    """Returns whether a file begins as recordings do. Raises AudioError if it cannot be read."""
    try:
        with source.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise AudioError(f"cannot read {source}: {error.strerror}") from error


def read_items(source: Path, size: int | None = None) -> Iterator[tuple[Item, int]]:
    """Yields the items of a recording in order, each with the number of bytes read so far. `size`
    limits the bytes, for a recording that still grows. Raises AudioError for a file that is not a
    recording or cannot be read."""
    reader, done = Reader(), 0
    try:
        with source.open("rb") as file:
            while piece := file.read(PIECE if size is None else min(PIECE, size - done)):
                done += len(piece)
                for item in reader.feed(piece):
                    yield item, done
        for item in reader.close():
            yield item, done
    except OSError as error:
        raise AudioError(f"cannot read {source}: {error.strerror or error}") from error
    except AudioError as error:
        raise AudioError(f"cannot read {source}: {error}") from error


def describe(source: Path) -> Description:
    """Reads a recording from end to end. Damage is reported in the result. Raises AudioError for a
    file that is not a recording."""
    found: Description | None = None
    waiting: list[Damage] = []  # damage before the header
    for item, read in read_items(source):
        if isinstance(item, Header):
            found = Description(source, item, 0)
        elif found is None:
            waiting += [item] if isinstance(item, Damage) else []
        if found is not None:
            for damage in waiting:
                _take(found, damage)
            waiting = []
            _take(found, item)
            found.size = read
    if found is None:
        raise AudioError(f"cannot read {source}: it is no recording")
    return found


def _take(found: Description, item: Item) -> None:
    if isinstance(item, Spoken):
        speaker = found.speakers.setdefault(item.speaker, Speaker(item.speaker))
        start_s = item.start * TICK_US / 1e6
        end_s = start_s + item.frames * found.header.hop_length / found.header.sample_rate
        speaker.first_s = start_s if speaker.first_s is None else speaker.first_s
        speaker.last_s = end_s
        speaker.records += 1
        speaker.frames += item.frames
        speaker.code_bytes += len(item.payload)
        found.seconds = max(found.seconds, end_s)
    elif isinstance(item, Event):
        _happened(found, item)
    elif isinstance(item, Damage):
        found.damage_count += 1
        found.damaged_bytes += item.size
        if len(found.damages) < MAX_DAMAGES:
            found.damages.append(Damaged(item.at, item.size, found.seconds))


def _happened(found: Description, event: Event) -> None:
    at_s = event.at * TICK_US / 1e6
    found.seconds = max(found.seconds, at_s)
    if event.type == "lost":
        found.frames_lost += event.frames
    elif event.type == "ended":
        found.ended = event.reason
    elif event.peer:
        speaker = found.speakers.setdefault(event.peer, Speaker(event.peer))
        if event.type == "joined":
            speaker.name, speaker.joined_s, speaker.remark = event.name, at_s, event.reason
        elif event.type == "left":
            speaker.left_s = at_s
