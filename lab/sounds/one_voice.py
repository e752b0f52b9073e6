"""Makes speech of one voice, to fine-tune to and to judge by: festival reads sentences of this
repository's documents, so it works from a checkout only.

    apt install festival festvox-us-slt-hts
    python -m earshot.lab.sounds.one_voice FOLDER [--minutes 5] [--held 24]

FOLDER/held gets the first sentences with their words (CLIP.txt), FOLDER/spoken gets others until
the minutes are full."""

from __future__ import annotations

import argparse
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import soundfile

DOCUMENTS = Path(__file__).resolve().parents[2]
WORDS = 6, 28
"""The fewest and the most in a sentence: it then takes two to eleven seconds."""


def sentences(document: str) -> Iterator[str]:
    """Yields what is read as it is spelled: no code, tables, lists, figures or names of files."""
    for block in document.split("\n\n"):
        if re.match(r"[|#>\-*`<\d ]", block):
            continue
        for sentence in re.split(r"(?<=[.:;]) ", " ".join(block.split())):
            plain = sentence.strip(" .:;").replace("**", "")
            if re.fullmatch(r"[A-Za-z ,'-]+", plain) and WORDS[0] <= len(plain.split()) <= WORDS[1]:
                yield plain


def speak(sentence: str, voice: str, file: Path) -> float:
    """Writes a sentence as speech; returns how many seconds it is long."""
    command = ["text2wave", "-eval", f"(voice_{voice})", "-o", str(file)]
    subprocess.run(command, input=f"{sentence}.", text=True, check=True, capture_output=True)
    return float(soundfile.info(str(file)).duration)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m earshot.lab.sounds.one_voice",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--held", type=int, default=24)
    parser.add_argument("--voice", default="cmu_us_slt_arctic_hts")
    options = parser.parse_args()
    held, spoken = options.folder / "held", options.folder / "spoken"
    for folder in (held, spoken):
        folder.mkdir(parents=True, exist_ok=True)
    files = [*sorted(DOCUMENTS.glob("docs/*.md")), DOCUMENTS / "README.md"]
    said = list(dict.fromkeys(s for file in files for s in sentences(file.read_text(encoding="utf-8"))))
    random.Random(0).shuffle(said)
    heard = 0.0
    for index, sentence in enumerate(said):
        if index < options.held:
            (held / f"{index:03}.txt").write_text(sentence + "\n", encoding="utf-8")
            speak(sentence, options.voice, held / f"{index:03}.wav")
        elif heard < 60 * options.minutes:
            heard += speak(sentence, options.voice, spoken / f"{index:03}.wav")
    print(f"{options.held} sentences in {held}, {heard / 60:.1f} minutes in {spoken}")


if __name__ == "__main__":
    main()
