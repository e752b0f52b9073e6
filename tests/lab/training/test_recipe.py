"""Decisions: their statistics over 10,000 draws, and the settings they follow."""

from __future__ import annotations

import tomllib
from collections import Counter
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from earshot.codec.errors import UsageError
from earshot.lab.training.recipe import DataSettings, Plan, Recipe
from earshot.lab.training.sources import Source

DRAWS = 10_000
RATE = 24_000
SOURCES = ("speech=3", "other:birds=1", "music:songs=3", "music:tunes=1", "noise:street=1", "noise:cafe=4")


def draw(settings: DataSettings, count: int = DRAWS, seed: int = 0) -> list[Plan]:
    recipe, random = Recipe(settings, RATE), np.random.default_rng(seed)
    return [recipe.plan(random) for _ in range(count)]


def assert_share(count: int, of: int, share: float) -> None:
    """Within four and a half standard deviations of a binomial: wrong by chance once in 150,000
    times."""
    assert abs(count - of * share) <= 4.5 * np.sqrt(of * share * (1 - share)) + 1e-9, f"{count} of {of}, not {share}"


def assert_uniform(values: list[float], low: float, high: float) -> None:
    assert low <= min(values) <= low + 0.05 * (high - low)
    assert high - 0.05 * (high - low) <= max(values) <= high
    counts, _ = np.histogram(values, bins=10, range=(low, high))
    for count in counts:
        assert_share(int(count), len(values), 0.1)


@pytest.fixture(scope="module")
def settings() -> DataSettings:
    return DataSettings(sources=SOURCES)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plans(settings: DataSettings) -> list[Plan]:
    return draw(settings)


def test_strategies_come_as_often_as_in_the_paper(plans: list[Plan]) -> None:
    counts = Counter(plan.strategy for plan in plans)
    for name, share in {"music": 0.32, "other": 0.32, "two": 0.24, "three": 0.12}.items():
        assert_share(counts[name], DRAWS, share)
    music = {2, 3}
    for plan in plans:
        used = {pick.source for pick in plan.picks}
        assert len(plan.picks) == {"two": 2, "three": 3}.get(plan.strategy, 1)
        assert used <= {"music": music, "two": {0, 1, 2, 3}}.get(plan.strategy, {0, 1})


def test_sources_come_by_weight(plans: list[Plan]) -> None:
    expected = {"music": {2: 0.75, 3: 0.25}, "other": {0: 0.75, 1: 0.25}, "three": {0: 0.75, 1: 0.25}}
    expected["two"] = {0: 3 / 8, 1: 1 / 8, 2: 3 / 8, 3: 1 / 8}
    for strategy, shares in expected.items():
        picked = [pick.source for plan in plans if plan.strategy == strategy for pick in plan.picks]
        for source, share in shares.items():
            assert_share(picked.count(source), len(picked), share)
    noises = [plan.noise.source for plan in plans if plan.noise]
    assert set(noises) == {4, 5}
    assert_share(noises.count(5), len(noises), 0.8)


def test_gains_and_places_are_even(plans: list[Plan]) -> None:
    picks = [pick for plan in plans for pick in plan.picks]
    assert_uniform([pick.gain_db for pick in picks], -10, 6)
    assert_uniform([pick.clip for pick in picks], 0, 1)
    assert_uniform([pick.position for pick in picks], 0, 1)


def test_rooms_noise_and_microphones_come_as_often_as_asked(plans: list[Plan]) -> None:
    assert not any(plan.room for plan in plans if plan.strategy == "music")
    others = [plan for plan in plans if plan.strategy != "music"]
    rooms = [plan.room for plan in others if plan.room is not None]
    assert_share(len(rooms), len(others), 0.2)
    assert_uniform(rooms, 0, 1)
    noisy = [plan for plan in plans if plan.noise]
    assert_share(len(noisy), DRAWS, 0.2)
    assert_uniform([plan.snr_db for plan in noisy], 5, 40)
    narrow = Counter(plan.cutoff for plan in plans if plan.cutoff)
    assert_share(narrow.total(), DRAWS, 0.05)
    for cutoff in (3400, 4000, 7000, 8000):
        assert_share(narrow[cutoff], narrow.total(), 0.25)
    overloaded = [plan for plan in plans if plan.overload_db is not None]
    assert_share(len(overloaded), DRAWS, 0.02)
    assert_share(sum(plan.overload_hard for plan in overloaded), len(overloaded), 0.5)
    hushed = [plan for plan in plans if plan.hush]
    assert_share(len(hushed), DRAWS, 0.03)
    assert_share(sum(np.isinf(plan.hush_db) for plan in hushed), len(hushed), 0.25)
    for plan in hushed:
        assert plan.hush is not None
        start, stop = plan.hush
        assert 0 <= start < stop <= 1 + 1e-9
        assert stop - start >= 0.2 - 1e-9
        assert np.isinf(plan.hush_db) or 30 <= plan.hush_db <= 60


def test_plans_are_a_function_of_the_generator(settings: DataSettings, plans: list[Plan]) -> None:
    assert draw(settings, 50) == plans[:50]
    assert draw(settings, 50, seed=1) != plans[:50]


@pytest.mark.parametrize(
    ("sources", "shares", "note"),
    [
        (["speech", "noise:street"], {"other": 0.32 / 0.68, "two": 0.24 / 0.68, "three": 0.12 / 0.68}, "kind music"),
        (["music:songs", "noise:street"], {"music": 0.32 / 0.56, "two": 0.24 / 0.56}, "kind speech or other"),
    ],
)
def test_a_missing_kind_leaves_its_share_to_the_rest(sources: list[str], shares: dict[str, float], note: str) -> None:
    settings = DataSettings(sources=sources)  # type: ignore[arg-type]
    recipe = Recipe(settings, RATE)
    assert recipe.shares == pytest.approx(shares)
    assert [note in text for text in recipe.notes] == [True]
    counts = Counter(plan.strategy for plan in draw(settings))
    for name, share in shares.items():
        assert_share(counts[name], DRAWS, share)
    assert set(counts) == set(shares)


def test_without_noise_none_is_added_and_that_is_said() -> None:
    settings = DataSettings(sources=("speech", "music:songs"))  # type: ignore[arg-type]
    assert Recipe(settings, RATE).notes == ["no source of kind noise: no noise is added"]
    assert not any(plan.noise for plan in draw(settings, 500))


@pytest.mark.parametrize(
    "table",
    [
        {"sources": []},
        {"sources": ["noise:street"]},
        {"sources": ["speech"], "strategies": {"other": 0, "two": 0, "three": 0}},
        {"sources": ["speech"], "microphone": {"cutoffs": [11_000, 20_000]}},
    ],
)
def test_settings_from_which_nothing_can_be_made(table: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Recipe(DataSettings.model_validate(table), RATE)


def test_the_plain_recipe() -> None:
    sources = [Source("speech", 3), Source("songs", 1, "music"), Source("street", 1, "noise")]
    settings = DataSettings.plain(sources, ["held-*"])
    assert Recipe(settings, RATE).notes == []
    plans = draw(settings)
    assert_share(sum(plan.picks[0].source == 0 for plan in plans), DRAWS, 0.75)
    assert_uniform([plan.picks[0].gain_db for plan in plans], -16, -1)
    for plan in plans:
        assert plan == Plan(plan.strategy, plan.picks)
        assert len(plan.picks) == 1
    assert settings.exclude == ("held-*",)


def test_settings_are_a_table() -> None:
    table = tomllib.loads("""
        sources = ["voices", "music:songs=0.5", {pattern = "street", kind = "noise", weight = 2}]
        exclude = ["p360*"]
        gain_db = [-6, 0]
        normalise = "file_peak"
        level_db = -6
        memory_gib = 0.5
        [strategies]
        two = 0
        [reverberation]
        probability = 0.1
        rt60 = [0.2, 0.8]
        responses = "rooms"
        [noise]
        snr_db = [0, 20]
        [microphone]
        narrow = 0
    """)
    settings = DataSettings.model_validate(table)
    assert settings.sources == (Source("voices"), Source("songs", 0.5, "music"), Source("street", 2, "noise"))
    assert (settings.strategies.two, settings.strategies.three) == (0, 0.12)
    assert (settings.reverberation.rt60, settings.reverberation.responses) == ((0.2, 0.8), "rooms")
    assert DataSettings.model_validate(settings.model_dump()) == settings
    assert DataSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    "table",
    [
        {"surces": ["a"]},
        {"sources": ["muisc:a"]},
        {"sources": [{"pattern": "a", "kin": "noise"}]},
        {"gain_db": [6, -10]},
        {"gain_db": [-10, float("inf")]},
        {"level_db": float("nan")},
        {"normalise": "loudness"},
        {"memory_gib": -1},
        {"strategies": {"four": 0.1}},
        {"strategies": {"two": -0.1}},
        {"reverberation": {"probability": 1.1}},
        {"reverberation": {"rt60": [0, 1]}},
        {"reverberation": {"rt60": [1, 50]}},
        {"reverberation": {"rooms": 0}},
        {"noise": {"snr_db": [20, 10]}},
        {"microphone": {"hush": -0.5}},
    ],
)
def test_wrong_settings_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DataSettings.model_validate(table)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        DataSettings().noise.probability = 1  # type: ignore[misc]
