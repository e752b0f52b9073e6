"""The predicted listeners: their packages as they are, and what they say of known sounds."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from earshot.codec.pcm import Pcm
from earshot.lab.evaluation.measures import BY_KEY, distillmos, dnsmos

ROOT = Path(__file__).parents[3]
RATE = 24_000
NAMES = {"distillmos": distillmos, "dnsmos": dnsmos}
SAID = {"distillmos": 3.46, "dnsmos": 3.22}
"""Of 8 s of a clean voice."""


@pytest.fixture(scope="module")
def clip() -> Pcm:
    from earshot.codec.audio_files import read_audio
    from tests.conftest import VOICES

    return read_audio(VOICES / "ada.flac", RATE, 8.0)


def test_the_packages_that_are_here_are_those_that_the_extra_asks_for() -> None:
    """A version outside is one that nobody has looked at: what it says is not what was
    published."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = [Requirement(text) for text in extras["mos"]]
    bounded = [each for each in asked if each.name in ("distillmos", "xls-r-sqa", "speechmos")]
    assert len(bounded) == 3
    for each in bounded:
        assert each.specifier.contains(version(each.name)), f"{each}, but {version(each.name)} is here"
        assert "<" in str(each.specifier)
        assert f"{each.name}=={version(each.name)}" in (ROOT / "scripts" / "install").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_they_say_of_a_known_voice_what_they_said(clip: Pcm, name: str) -> None:
    assert NAMES[name](clip, clip, RATE) == pytest.approx(SAID[name], abs=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_noise_is_worse_and_the_original_does_not_matter(clip: Pcm, name: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, clip.size).astype(np.float32)
    found = NAMES[name](clip, clip + noise, RATE)
    assert found is not None
    assert 1 <= found < SAID[name] - 1
    assert NAMES[name](noise, clip + noise, RATE) == found
    assert BY_KEY[name].alone


def test_nothing_is_left_of_what_stood_in_for_other_packages(clip: Pcm) -> None:
    for name in NAMES:
        NAMES[name](clip[:RATE], clip[:RATE], RATE)
    for package in ("torchaudio", "librosa", "requests"):
        assert package not in sys.modules or find_spec(package) is not None
