"""The order in which raters meet clips and conditions."""

from __future__ import annotations

from collections import Counter

import pytest

from earshot.codec.errors import UsageError
from earshot.lab.listening.plan import ANCHOR, MAX_CONDITIONS, REFERENCE, Plan, choose, shuffled

PLAN = Plan(("a", "b", "c"), ("new", "old"), seed=3)


def test_all_systems_are_rated_with_the_hidden_reference_and_the_anchor() -> None:
    assert sorted(PLAN.conditions_for("ada", "a")) == sorted(["new", "old", ANCHOR, REFERENCE])
    assert sorted(PLAN.clips_for("ada")) == ["a", "b", "c"]


def test_orders_follow_from_seed_and_rater_on_every_machine() -> None:
    """By hand: the order of the SHA-256 digests of "3", "ada" and the name, with zero bytes between
    them."""
    assert Plan(("a", "b", "c"), ("new", "old"), seed=3).clips_for("ada") == PLAN.clips_for("ada")
    assert shuffled("abcdefgh", 3, "ada") == ["g", "f", "h", "a", "b", "e", "c", "d"]


def test_other_seeds_raters_and_clips_have_other_orders() -> None:
    clips = tuple("abcdefghijkl")
    orders = {Plan(clips, ("x",), seed).clips_for(rater) for seed in range(5) for rater in ("ada", "ben")}
    assert len(orders) == 10
    assert len({PLAN.conditions_for("ada", clip) for clip in clips}) > 5


def test_every_place_on_the_page_is_as_likely_for_every_condition() -> None:
    places = Counter(
        (place, name) for rater in range(1200) for place, name in enumerate(PLAN.conditions_for(str(rater), "a"))
    )
    assert len(places) == 16
    assert all(225 < count < 375 for count in places.values())  # 300 expected, standard deviation 15


def test_some_clips_are_chosen_by_the_seed_alone() -> None:
    clips = [f"clip{n}" for n in range(50)]
    assert choose(clips, None, 1) == tuple(clips)
    assert len(set(choose(clips, 10, 1))) == 10
    assert choose(clips, 10, 1) == choose(clips, 10, 1) != choose(clips, 10, 2)
    assert choose(clips, 99, 1) == tuple(sorted(clips))


@pytest.mark.parametrize(
    ("clips", "systems", "said"),
    [
        ((), ("x",), "at least one clip"),
        (("a",), (), "one system"),
        (("a",), tuple(f"s{n}" for n in range(MAX_CONDITIONS - 1)), "do not fit on one page"),
        (("a",), (ANCHOR,), "cannot be called anchor"),
        (("a",), ("x\ny",), "printable"),
        (tuple(map(str, range(1001))), ("x",), "more than anybody rates"),
    ],
)
def test_what_cannot_be_tested_is_refused(clips: tuple[str, ...], systems: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Plan(clips, systems)


def test_as_many_systems_as_keys_fit() -> None:
    assert len(Plan(("a",), tuple(f"s{n}" for n in range(MAX_CONDITIONS - 2))).conditions) == MAX_CONDITIONS
