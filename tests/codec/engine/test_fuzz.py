"""A few of the random streams and arguments of tests/bench; `python -m tests.bench.fuzz_engine
--minutes 10` runs more."""

from __future__ import annotations

from collections import Counter

import pytest

from earshot import codec
from tests.bench.fuzz_arguments import bad_arguments
from tests.bench.fuzz_engine import live


def test_random_lives_in_random_shapes_are_those_of_torch() -> None:
    counts: Counter[str] = Counter()
    for number in range(1, 9):
        counts += live(number, operations=120)
    assert counts["frames"] > 500
    assert counts["ties"] < 10, dict(counts)
    assert counts.keys() >= {"open", "step", "copy", "reset", "save", "restore", "close"}


def test_a_random_life_of_the_default_model_is_that_of_torch() -> None:
    assert live(10, operations=200, model=codec.load("default", engine="torch"))["frames"] > 100


@pytest.mark.parametrize("number", range(3))
def test_random_arguments_do_no_harm(number: int) -> None:
    counts = bad_arguments(number, 400)
    assert 0.1 < counts["refused"] / counts["calls"] < 0.9
