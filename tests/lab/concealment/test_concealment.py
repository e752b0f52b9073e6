"""Gaps, what is heard of them, and the table."""

from __future__ import annotations

import random

import numpy as np
import pytest

from earshot.codec.model.model import Model
from earshot.lab.concealment.__main__ import table
from earshot.lab.concealment.run import FIRST_FRAME, MEASURES, Gaps, Result, heard
from earshot.lab.confidence import Mean


@pytest.mark.parametrize("seed", range(5))
def test_gaps_are_as_many_and_as_long_as_they_should_be(seed: int) -> None:
    missing = Gaps(0.05).of(300, random.Random(seed))
    assert 15 <= len(missing) <= 16
    assert min(missing) >= FIRST_FRAME
    starts = [number for number in missing if number - 1 not in missing]
    for start in starts:
        length = next(size for size in range(1, 9) if start + size not in missing)
        assert 2 <= length <= 5


def test_only_the_gaps_sound_different(tiny_model: Model) -> None:
    hop = tiny_model.config.hop_length
    codes = np.random.default_rng(0).integers(0, 1024, (8, 80)).astype(np.int16)
    missing = {40, 41, 42}
    whole = heard(tiny_model, codes, set(), conceals=True)
    faded, concealed = (heard(tiny_model, codes, missing, conceals) for conceals in (False, True))
    assert whole.size == faded.size == concealed.size == 80 * hop
    before, gap = slice(2 * hop, 40 * hop), slice(round(40.5 * hop), 43 * hop)
    for sound in (faded, concealed):
        assert np.allclose(sound[before], whole[before], atol=1e-5)
    assert np.abs(concealed[gap]).mean() > 2 * np.abs(faded[gap]).mean()


def test_a_table() -> None:
    means = [Mean(1.0, 0.1, 3)] * len(MEASURES)
    lines = table(Result(means, means, [Mean(0.25, 0.05, 3)] * len(MEASURES), 3)).splitlines()
    assert lines[-1] == "| gain | 0.250 ± 0.050 | 0.250 ± 0.050 | 0.250 ± 0.050 |"
    assert len({line.count("|") for line in lines}) == 1
