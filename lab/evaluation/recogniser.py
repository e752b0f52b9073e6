"""An offline recogniser of English (CMU PocketSphinx with its own models), the same for every
system."""

from __future__ import annotations

from functools import cache

import numpy as np
import soxr

from earshot.codec.pcm import Pcm, to_s16
from earshot.lab.evaluation.words import words_of

PACKAGE = "pocketsphinx"
SAMPLE_RATE = 16_000
MARGIN_SECONDS = 0.5
NOISE_RMS = 1e-4
"""Faint noise under and around the speech: digital silence upsets the recogniser's features."""


class Recogniser:
    """Recognises each clip by itself: what came before does not matter."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self._decoder = Decoder(samprate=float(SAMPLE_RATE), cmn="batch", loglevel="FATAL")

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and self._decoder.lookup_word(word) is not None

    def words(self, pcm: Pcm, sample_rate: int) -> list[str]:
        """Returns the words that are said in a clip [n]."""
        wide = soxr.resample(pcm, sample_rate, SAMPLE_RATE) if sample_rate != SAMPLE_RATE else pcm
        padded = np.pad(wide, round(MARGIN_SECONDS * SAMPLE_RATE))
        noise = np.random.default_rng(0).normal(0, NOISE_RMS, padded.size)
        self._decoder.reinit_feat()  # its features go on from the last clip's otherwise, and words with them
        self._decoder.start_utt()
        self._decoder.process_raw(to_s16((padded + noise).astype(np.float32)), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return words_of(found.hypstr) if found else []


@cache
def recogniser() -> Recogniser:
    """Returns the one recogniser of this process: making it takes a quarter of a second and 100
    MB."""
    return Recogniser()
