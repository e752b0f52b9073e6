"""Words and their errors."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.lab.evaluation.words import is_known, word_errors, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("Hello, world! -- Well?", ["hello", "world", "well"]),
        ("It\u2019s the boys' 'own' idea", ["it's", "the", "boys", "own", "idea"]),
        ("the(2) cat <sil> sat(3)</s>", ["the", "cat", "sat"]),
        ("half-past nine_o'clock", ["half", "past", "nine", "o'clock"]),
        ("\u00dcber \u00e7a", ["\u00fcber", "\u00e7a"]),
    ],
)
def test_words_of(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("reference", "heard", "errors"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "", 3),
        ("", "a b", 2),
        ("a b c", "a x c", 1),
        ("a b c", "a c", 1),
        ("a b c", "a b b c", 1),
        ("the cat sat", "a cat that sat down", 3),
    ],
)
def test_word_errors(reference: str, heard: str, errors: int) -> None:
    assert word_errors(reference.split(), heard.split()) == errors


@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
def test_word_errors_equal_the_definition(reference: list[str], heard: list[str]) -> None:
    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(
            distance(i - 1, j) + 1,
            distance(i, j - 1) + 1,
            distance(i - 1, j - 1) + (reference[i - 1] != heard[j - 1]),
        )

    assert word_errors(reference, heard) == distance(len(reference), len(heard)) == word_errors(heard, reference)


def test_a_transcript_is_known_by_four_words_of_five() -> None:
    dictionary = {"one", "two", "three", "four"}
    assert is_known(["one", "two", "three", "four"], dictionary)
    assert is_known(["one", "two", "three", "four", "fuenf"], dictionary)
    assert not is_known(["one", "two", "three", "vier"], dictionary)
    assert not is_known([], dictionary)
