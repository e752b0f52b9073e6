"""The recogniser on the demo voices, whose text is known."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from earshot.codec.pcm import Pcm
from earshot.lab.evaluation.recogniser import Recogniser, recogniser
from earshot.lab.evaluation.words import is_known, word_errors, words_of
from tests.conftest import VOICES

ADA = "Good morning, Ben! Can you hear me clearly? I took the early train"
"""What ada.flac begins with (lab/voices/README.md)."""
SECONDS = 3.4


@pytest.fixture(scope="module")
def ada() -> Pcm:
    return np.asarray(soundfile.read(VOICES / "ada.flac", dtype="float32")[0])[: round(SECONDS * 24_000)]


def test_it_understands_a_clear_voice(ada: Pcm) -> None:
    reference = words_of(ADA)
    heard = recogniser().words(ada, 24_000)
    assert word_errors(reference, heard) <= 0.3 * len(reference), heard


def test_what_came_before_does_not_matter(ada: Pcm) -> None:
    noisy = ada + np.random.default_rng(3).normal(0, 0.03, ada.size).astype(np.float32)
    fresh = Recogniser().words(noisy, 24_000)
    used = recogniser()
    used.words(ada, 24_000)
    assert used.words(noisy, 24_000) == fresh


def test_silence_and_nothing_hold_no_words() -> None:
    assert recogniser().words(np.zeros(16_000, np.float32), 16_000) == []
    assert recogniser().words(np.zeros(0, np.float32), 24_000) == []


def test_its_dictionary_tells_english_from_other_languages() -> None:
    assert is_known(words_of(ADA), recogniser())
    german = "Guten Morgen, Ben! Kannst du mich deutlich h\u00f6ren? Ich nahm den fr\u00fchen Zug"
    french = "Bonjour Ben, est-ce que tu m'entends clairement? J'ai pris le premier train ce matin"
    assert not is_known(words_of(german), recogniser())
    assert not is_known(words_of(french), recogniser())
    assert 7 not in recogniser()
