"""The one table of audio formats by the ending of a file's name: what is read, and what is written
and how."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from earshot.codec.errors import AudioError


class Written(NamedTuple):
    """How a file is written, in the words of libsndfile."""

    format: str
    subtype: str


WRITTEN = {
    ".wav": Written("WAV", "PCM_16"),
    ".flac": Written("FLAC", "PCM_16"),
    ".ogg": Written("OGG", "VORBIS"),
    ".oga": Written("OGG", "VORBIS"),
    ".opus": Written("OGG", "OPUS"),
    ".mp3": Written("MP3", "MPEG_LAYER_III"),
    ".aif": Written("AIFF", "PCM_16"),
    ".aiff": Written("AIFF", "PCM_16"),
    ".au": Written("AU", "PCM_16"),
    ".snd": Written("AU", "PCM_16"),
    ".caf": Written("CAF", "PCM_16"),
    ".w64": Written("W64", "PCM_16"),
    ".rf64": Written("RF64", "PCM_16"),
}
_ONLY_READ = (
    *(".wave", ".bwf", ".wavex", ".aifc", ".mp1", ".mp2", ".mpga", ".sf", ".ircam", ".voc", ".nist", ".sph"),
    *(".paf", ".svx", ".8svx", ".avr", ".htk", ".pvf", ".sd2", ".sds", ".xi", ".wve", ".mpc2k"),
)
READ = frozenset((*WRITTEN, *_ONLY_READ))
"""Files with other endings are read if they are named themselves, by what is in them. `.raw` says
neither rate nor format and is never read."""
LIVE = (".wav", ".flac", ".w64")
"""Formats that can be read when the program that writes was killed."""
FEW = ".wav, .flac or .ogg"
"""What messages advise."""


def is_audio_name(file: Path) -> bool:
    """Returns whether a file's name says that it holds sound."""
    return file.suffix.lower() in READ


def written_as(file: Path, live: bool = False) -> Written:
    """Returns how a file of this name is written, whole or, with `live`, while sound comes in.

    Raises AudioError for a name that says something else, for a format that the libsndfile of this
    machine cannot write, and for one of which nothing would be left if the program were killed."""
    import soundfile  # not by commands that only ask for --help

    found = WRITTEN.get(file.suffix.lower())
    if found is None:
        raise AudioError(f"cannot write audio to {file}: end its name in {FEW}")
    if not soundfile.check_format(found.format, found.subtype):
        raise AudioError(
            f"cannot write {file}: libsndfile {soundfile.__libsndfile_version__} of this machine does not write "
            f"{file.suffix}; end its name in {FEW}"
        )
    if live and file.suffix.lower() not in LIVE:
        raise AudioError(
            f"cannot write {file} while it is heard: of {file.suffix} nothing would be left if the call were killed; "
            f"end its name in {', '.join(LIVE[:-1])} or {LIVE[-1]}"
        )
    return found
