"""Words: of transcripts and of recognisers, and how many are wrong."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence

KNOWN_SHARE = 0.8
"""A transcript is English if the recogniser's dictionary has so much of it; other words cannot be
recognised."""


def words_of(text: str) -> list[str]:
    """Returns lower-case words without punctuation; apostrophes inside a word stay.

    Recognisers' `(2)` for a second way to pronounce a word and their `<sil>` are removed. Numbers
    should be written as words."""
    text = re.sub(r"<[^>]*>|\(\d+\)", " ", text.lower().replace("\u2019", "'"))
    return [word for part in re.findall(r"[^\W_]+(?:'[^\W_]+)*'?|'[^\W_]+", text) if (word := part.strip("'"))]


def word_errors(reference: Sequence[str], heard: Sequence[str]) -> int:
    """Returns the least number of words to insert, delete and replace (Levenshtein 1966)."""
    row = list(range(len(heard) + 1))
    for deleted, wanted in enumerate(reference, 1):
        diagonal, row[0] = row[0], deleted
        for column, word in enumerate(heard, 1):
            replaced = diagonal + (word != wanted)
            diagonal = row[column]
            row[column] = min(replaced, row[column] + 1, row[column - 1] + 1)
    return row[-1]


def is_known(words: Sequence[str], dictionary: Container[str]) -> bool:
    """Returns whether a transcript is in the dictionary's language."""
    return bool(words) and sum(word in dictionary for word in words) >= KNOWN_SHARE * len(words)
