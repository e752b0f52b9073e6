"""What the voices of `lab/voices` say, for measurements."""

from __future__ import annotations

import numpy as np

from earshot.client.audio.files import read_blocks
from earshot.codec.pcm import Pcm
from earshot.lab import VOICES

SAMPLE_RATE = 24_000


def talk(seconds: float) -> Pcm:
    """Returns so many seconds of speech, one voice after the other and again from the beginning, 24
    kHz mono."""
    clips = [np.concatenate(list(read_blocks(VOICES / f"{name}.flac", 240))) for name in ("ada", "ben")]
    return np.resize(np.concatenate(clips), round(seconds * SAMPLE_RATE))
