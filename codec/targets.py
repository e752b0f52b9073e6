"""Checks of the files that are to be written, before any work is done or anything is opened."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from earshot.codec.audio_formats import READ
from earshot.codec.errors import UsageError

Kind = Literal["audio", "codes", "recording", "picture", "weights", "figures", "text"]

ENDINGS: dict[Kind, frozenset[str]] = {
    "audio": READ | {".raw", ".pcm", ".m4a", ".aac", ".wma"},
    "codes": frozenset({".ecdc"}),
    "recording": frozenset({".eshr"}),
    "picture": frozenset({".png", ".jpg", ".jpeg", ".svg", ".pdf", ".gif", ".webp"}),
    "weights": frozenset({".safetensors", ".th", ".pt", ".pth", ".onnx"}),
    "figures": frozenset({".json", ".jsonl"}),
    "text": frozenset({".txt", ".log", ".csv", ".tsv", ".md"}),
}
"""What the ending of a name says about a file."""
LONGEST_NAME = 240
"""Bytes of a file's name to which more can be added."""


def check_name(target: Path, kind: Kind, endings: Sequence[str] = ()) -> None:
    """Raises UsageError if the name of a file that shall hold `kind` says otherwise, or has none of
    the `endings` where these are given."""
    ending = target.suffix.lower()
    if endings and ending not in endings:
        raise UsageError(f"{target} will hold {kind}: end its name in {' or '.join(endings)}")
    said = next((other for other, of_it in ENDINGS.items() if ending in of_it), kind)
    if said != kind and {said, kind} != {"figures", "text"}:
        raise UsageError(f"{target} will hold {kind}, but its name says {said}; give it another ending")


def check_apart(targets: Iterable[Path], sources: Iterable[Path]) -> None:
    """Raises UsageError for a target that is one of the sources, by whatever name or link, and for
    one that is named twice."""
    read, taken = {_identity(source) for source in sources}, set[object]()
    for target in targets:
        if is_special(target):
            continue
        if (this := _identity(target)) in read:
            raise UsageError(f"{target} is what is read here and would be lost: name another file to write")
        if this in taken:
            raise UsageError(f"{target} is named twice as a file to write")
        taken.add(this)


def check_targets(targets: Sequence[Path], sources: Iterable[Path] = ()) -> None:
    """Raises UsageError for targets that are not apart from the sources and each other, and for one
    that cannot be written."""
    check_apart(targets, sources)
    for target in targets:
        if target.is_dir():
            raise UsageError(f"cannot write {target}: it is a folder")
        if not target.parent.is_dir():
            raise UsageError(f"cannot write {target}: there is no folder {target.parent}")
        if not os.access(target if target.exists() else target.parent, os.W_OK):
            raise UsageError(f"cannot write {target}: no permission")


def is_special(target: Path) -> bool:
    """Returns whether a path is a pipe, a terminal or another device: writing there replaces
    nothing."""
    return target.exists() and not target.is_file() and not target.is_dir()


def part_of(target: Path) -> Path:
    """Returns a name beside `target` for the file while it is not complete, which nobody else gives
    to a file."""
    name = os.fsencode(target.name)
    kept = target.name if len(name) < LONGEST_NAME else hashlib.sha256(name).hexdigest()[:32]
    return target.with_name(f".{kept}.earshot-part")


def _identity(path: Path) -> object:
    """Returns what is equal for two names of one file, which need not exist."""
    try:
        found = path.stat()
    except OSError:
        return os.path.normcase(os.path.realpath(path))
    return found.st_dev, found.st_ino
