"""Makes music from nothing: FluidSynth plays random pieces with the instruments of a General MIDI
sound font.

    apt install fluidsynth fluid-soundfont-gm        # FluidR3_GM, MIT licence
    python -m earshot.lab.sounds.general_midi FOLDER [--pieces 150] [--seed 2] [--font FILE]
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.random import Generator

RATE, SECONDS = 24_000, 20
TICKS = 480
"""Ticks of MIDI in a beat."""
SCALES = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
CHORDS = 0, 3, 4, 5, 0, 1, 4, 0
PARTS = "melody", "chords", "bass", "arpeggio"
PURE = 72, 73, 78, 79
"""Programs of piccolo, flute, whistle and ocarina, which play high."""
USUAL = (0, 4, 16, 19, 24, 25, 27, 30, 33, 40, 42, 48, 56, 57, 60, 61, 65, 68, 71, *PURE, 75, 80, 81, 88, 89, 123)
DRUMS = 9


@dataclass(frozen=True)
class Note:
    channel: int
    beat: float
    beats: float
    key: int
    velocity: int


def part(
    r: Generator, channel: int, kind: str, program: int, beats: int, root: int, scale: tuple[int, ...]
) -> list[Note]:
    """Returns one instrument's notes over the whole piece."""
    up, velocity = 12 * int(r.integers(1, 5 if program in PURE else 4)), int(r.integers(50, 125))
    degree, beat, notes = int(r.integers(0, 7)), 0.0, []

    def key(degree: int) -> int:
        return root + 12 * (degree // 7) + scale[degree % 7]

    while beat < beats:
        chord = CHORDS[int(beat // 4) % len(CHORDS)]
        if kind == "melody":
            lasts = float(r.choice([0.25, 0.5, 0.5, 1, 1, 2, 3]))
            degree = int(np.clip(degree + r.integers(-3, 4), -3, 14))
            keys = [key(degree) + up] if r.random() < 0.88 else []
        elif kind == "chords":
            lasts = float(r.choice([0.5, 1, 2, 4]))
            keys = [key(chord + third) + 12 for third in (0, 2, 4, 6)[: int(r.integers(2, 5))]]
        elif kind == "bass":
            lasts, keys = float(r.choice([0.5, 1, 2])), [key(chord) - (12 if root > 44 else 0)]
        else:
            lasts, keys = 0.25, [key(chord + int(r.choice([0, 2, 4, 7]))) + up]
        notes += [Note(channel, beat, lasts * r.uniform(0.5, 1), k, velocity) for k in keys if 0 <= k < 128]
        beat += lasts
    return notes


def drums(r: Generator, beats: int) -> list[Note]:
    """Repeats a pattern of sixteenths for eight instruments."""
    struck = r.random((8, 16)) < r.uniform(0.05, 0.5, (8, 1))
    keys = [36, 38, 42, *r.integers(35, 82, 5)]
    return [
        Note(DRUMS, step / 4, 0.2, int(keys[index]), int(r.integers(50, 127)))
        for step in range(4 * beats)
        for index in np.flatnonzero(struck[:, step % 16])
    ]


def piece(r: Generator) -> bytes:
    """Returns a Standard MIDI File of one track.

    It has a soloist in a third of the cases, else two to five instruments and mostly drums."""
    tempo, root, scale = int(r.integers(60, 170)), int(r.integers(36, 60)), SCALES[int(r.integers(2))]
    beats, alone = SECONDS * tempo // 60, r.random() < 0.35
    events = [(0, 0, b"\xff\x51\x03" + (60_000_000 // tempo).to_bytes(3, "big"))]
    notes = drums(r, beats) if not alone and r.random() < 0.7 else []
    for channel in range(1 if alone else int(r.integers(2, 6))):
        program = int(r.integers(128)) if r.random() < 0.6 else int(r.choice(USUAL))
        events.append((0, 0, bytes([0xC0 | channel, program])))
        notes += part(r, channel, str(r.choice(PARTS)), program, beats, root, scale)
    for note in notes:
        events.append((round(note.beat * TICKS), 2, bytes([0x90 | note.channel, note.key, note.velocity])))
        events.append((round((note.beat + note.beats) * TICKS), 1, bytes([0x80 | note.channel, note.key, 0])))
    track, before = b"", 0
    for tick, _, event in sorted(events):
        track += _variable(tick - before) + event
        before = tick
    track += b"\0\xff\x2f\0"
    return struct.pack(">4sIHHH", b"MThd", 6, 0, 1, TICKS) + struct.pack(">4sI", b"MTrk", len(track)) + track


def _variable(value: int) -> bytes:
    """Returns a MIDI variable-length quantity."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(0x80 | value & 0x7F)
    return bytes(reversed(out))


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m earshot.lab.sounds.general_midi",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pieces", type=int, default=150)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--font", default="/usr/share/sounds/sf2/FluidR3_GM.sf2")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        midi, played = Path(folder) / "piece.mid", Path(folder) / "piece.wav"
        for index in range(options.pieces):
            midi.write_bytes(piece(np.random.default_rng([options.seed, index])))
            command = ["fluidsynth", "-ni", "-q", "-g", "0.6", "-r", "48000", "-F", str(played), "-T", "wav"]
            subprocess.run([*command, options.font, str(midi)], check=True, capture_output=True)
            stereo, rate = soundfile.read(played, SECONDS * 48_000, dtype="float32", always_2d=True)
            sound = soxr.resample(stereo.mean(axis=1), rate, RATE)
            peak = float(np.abs(sound).max())
            if peak > 1e-3:
                soundfile.write(options.folder / f"general-midi-{index:03}.flac", 0.9 / peak * sound, RATE)


if __name__ == "__main__":
    main()
