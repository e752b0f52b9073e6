"""The clips that systems are judged by: their names, transcripts and language."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from earshot.codec.audio_files import audio_files
from earshot.codec.errors import AudioError

MANIFEST = "MANIFEST.tsv"
TRANSCRIPT_COLUMNS = ("transcript", "text", "sentence")


@dataclass(frozen=True)
class Clip:
    name: str
    """Fit for a file name, and different from those of all other clips."""
    file: Path
    transcript: str | None = None
    english: bool = False
    """Whether its words are worth recognising, should it have no transcript."""


def find_clips(patterns: Sequence[str], all_english: bool = False) -> list[Clip]:
    """Returns the clips of folders, files and globs, in this order, each once.

    A transcript is a `.txt` beside the clip, or a column (transcript, text or sentence) of its line
    in a MANIFEST.tsv of its folder or of one above it. A clip is English if the manifest's column
    `language` says so (en...). Without that column it is English if it has a transcript (whose
    words are checked later), if the word `en` stands in its file name or its line
    (`speaker-en-us-joe`), or if `all_english` is set. Raises UsageError where there is no audio,
    AudioError for a transcript that cannot be read."""
    files = dict.fromkeys(file for pattern in patterns for file in audio_files(pattern))
    manifests: dict[Path, dict[Path, dict[str, str]]] = {}
    names = unique_names([file.stem for file in files])
    return [_clip(name, file, manifests, all_english) for name, file in zip(names, files, strict=True)]


def _clip(name: str, file: Path, manifests: dict[Path, dict[Path, dict[str, str]]], all_english: bool) -> Clip:
    row = _row(file, manifests)
    transcript = _read(file.with_suffix(".txt")) or next(filter(None, map(row.get, TRANSCRIPT_COLUMNS)), None)
    if language := row.get("language"):
        english = language.lower().startswith("en")
        return Clip(name, file, transcript if english else None, english)
    hints = " ".join([file.stem, *row.values()]).lower()
    named = "en" in re.split(r"[^a-z0-9]+", hints)
    return Clip(name, file, transcript, bool(transcript) or named or all_english)


def _read(file: Path) -> str | None:
    if not file.is_file():
        return None
    try:
        return file.read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as error:
        raise AudioError(f"the transcript {file} cannot be read: {error}") from error


def _row(file: Path, manifests: dict[Path, dict[Path, dict[str, str]]]) -> dict[str, str]:
    """Returns the line of the nearest manifest that names the file in its column `path`; empty if
    none does."""
    file = file.resolve()
    for folder in file.parents[:3]:
        if folder not in manifests:
            manifests[folder] = dict(_rows(folder / MANIFEST))
        if row := manifests[folder].get(file):
            return row
    return {}


def _rows(manifest: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    if not manifest.is_file():
        return
    try:
        with manifest.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, restval=""):
                known = {key.lower(): value for key, value in row.items() if isinstance(key, str)}
                if path := known.pop("path", ""):
                    yield (manifest.parent / path).resolve(), known
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AudioError(f"{manifest} cannot be read: {error}") from error


def unique_names(names: Sequence[str]) -> list[str]:
    """Makes each name fit for a file name, with -2, -3... where the same one came before."""
    taken: set[str] = set()
    unique = []
    for name in names:
        plain = re.sub(r"[^\w.-]+", "-", name).strip(".-") or "clip"
        candidate, number = plain, 1
        while candidate.lower() in taken:
            number += 1
            candidate = f"{plain}-{number}"
        taken.add(candidate.lower())
        unique.append(candidate)
    return unique
