"""The rules of a test: who may rate what, and what a browser gets to know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.codec.errors import UsageError
from earshot.lab.listening.plan import REFERENCE, Plan
from earshot.lab.listening.scores import Rating
from earshot.lab.listening.session import Answer, Fault, Join, Rater, Refused, Session, digest, parse

PLAN = Plan(("first", "second"), ("zebra", "yak"), seed=5)
NOW = "2026-01-02T03:04:05+00:00"


def session(max_raters: int = 10, secret: bytes = b"secret") -> Session:
    return Session(PLAN, secret, max_raters)


def answer(test: Session, rater: Rater, score: int = 50) -> Answer:
    trial = test.trial(rater, 0)
    assert trial is not None
    return Answer(trial=trial.token, scores=dict.fromkeys(trial.conditions, score))


def rate(test: Session, rater: Rater) -> list[Rating]:
    ratings = test.ratings(rater, answer(test, rater), 0, NOW)
    test.keep(rater)
    test.rated(rater, ratings[0].trial)
    return ratings


@contextmanager
def refused(fault: Fault) -> Iterator[None]:
    with pytest.raises(Refused) as refusal:
        yield
    assert refusal.value.fault is fault
    assert len(str(refusal.value)) < 300


def test_a_rater_meets_every_clip_once_in_the_order_of_the_plan() -> None:
    test = session()
    ada = test.join("Ada", "key", "anonymous-1")
    seen = []
    for number in (1, 2):
        trial = test.trial(ada, 0)
        assert trial is not None
        assert (trial.number, trial.total, len(trial.conditions)) == (number, 2, 4)
        seen.append(test.sound(ada, trial.reference)[0])
        assert tuple(test.sound(ada, token)[1] for token in trial.conditions) == PLAN.conditions_for("Ada", seen[-1])
        rate(test, ada)
    assert tuple(seen) == PLAN.clips_for("Ada")
    assert test.trial(ada, 0) is None


def test_tokens_say_nothing_and_hold_for_one_rater_and_trial() -> None:
    test = session()
    ada, ben = (test.join(name, name, "") for name in ("Ada", "Ben"))
    tokens = []
    for rater in (ada, ben):
        for _ in PLAN.clips:
            trial = test.trial(rater, 0)
            assert trial is not None
            tokens += [trial.token, trial.reference, *trial.conditions]
            rate(test, rater)
    assert len(set(tokens)) == len(tokens) == 24
    assert all(set(token) <= set("0123456789abcdef") and len(token) == 32 for token in tokens)
    other = session(secret=b"another")
    again = other.trial(other.join("Ada", "Ada", ""), 0)
    assert again is not None
    assert not set(tokens) & {again.token, again.reference, *again.conditions}


def test_the_hidden_reference_has_not_the_token_of_the_open_one() -> None:
    test = session()
    ada = test.join("Ada", "key", "")
    trial = test.trial(ada, 0)
    assert trial is not None
    assert trial.reference not in trial.conditions
    hidden = [token for token in trial.conditions if test.sound(ada, token)[1] == REFERENCE]
    assert len(hidden) == 1


def test_sounds_of_other_raters_trials_and_names_are_unknown() -> None:
    test = session()
    ada, ben = (test.join(name, name, "") for name in ("Ada", "Ben"))
    bens, before = test.trial(ben, 0), test.trial(ada, 0)
    assert bens is not None
    assert before is not None
    rate(test, ada)
    for token in (bens.conditions[0], before.conditions[0], before.reference, "zebra", "reference", ""):
        with refused(Fault.UNKNOWN_SOUND):
            test.sound(ada, token)


def test_ratings_name_what_was_hidden_and_the_time_it_took() -> None:
    test = session()
    ada = test.join("Ada", "key", "")
    trial = test.trial(ada, 5_000_000)
    assert trial is not None
    assert test.trial(ada, 9_000_000) == trial  # a reload does not turn the clock back
    scores = {token: 10 * place for place, token in enumerate(trial.conditions)}
    ratings = test.ratings(ada, Answer(trial=trial.token, scores=scores), 17_500_000, NOW)
    clip = PLAN.clips_for("Ada")[0]
    order = PLAN.conditions_for("Ada", clip)
    assert ratings == [Rating("Ada", clip, name, 10 * place, 12.5, NOW) for place, name in enumerate(order)]


def test_a_trial_is_rated_once_and_whole() -> None:
    test = session()
    ada = test.join("Ada", "key", "")
    whole = answer(test, ada)
    tokens = list(whole.scores)
    for scores in (
        dict.fromkeys(tokens[1:], 50),
        dict.fromkeys([*tokens, "more"], 50),
        dict.fromkeys([*tokens[1:], "another"], 50),
    ):
        with refused(Fault.MALFORMED):
            test.ratings(ada, Answer(trial=whole.trial, scores=scores), 0, NOW)
    rate(test, ada)
    with refused(Fault.NOT_THIS_TRIAL):
        test.ratings(ada, whole, 0, NOW)
    rate(test, ada)
    with refused(Fault.NOT_THIS_TRIAL):
        test.ratings(ada, whole, 0, NOW)


@pytest.mark.parametrize("name", ["=1+1", "@me", "a\nb\x00", "x" * 41, "<b>", "-1", "+1", 'say "hi"', "a,b"])
def test_names_that_are_refused(name: str) -> None:
    with refused(Fault.MALFORMED):
        session().join(name, "key", "anonymous-1")


def test_names_are_tidied_and_may_be_missing() -> None:
    test = session()
    assert test.join("  Åsa   d'Arc-2 ", "1", "").name == "Åsa d'Arc-2"
    assert test.join("", "2", "anonymous-1").name == "anonymous-1"
    assert test.join(" \t", "3", "anonymous-2").name == "anonymous-2"


def test_a_name_is_one_persons() -> None:
    test = session()
    test.join("Ada", "1", "")
    with refused(Fault.NAME_TAKEN):
        test.join("aDA ", "2", "")


def test_raters_are_known_by_their_key() -> None:
    test = session()
    ada = test.join("Ada", "key", "")
    assert test.rater("key") is ada
    for key in ("", "Key", "Ada", digest("key").hex()):
        with refused(Fault.UNKNOWN_RATER):
            test.rater(key)


def test_whoever_has_rated_nothing_makes_room_and_whoever_has_stays() -> None:
    test = session(max_raters=2)
    ada = test.join("Ada", "a", "")
    rate(test, ada)
    ben, cy = (test.join(name, name, "") for name in ("Ben", "Cy"))
    dan = test.join("Dan", "Dan", "")
    with refused(Fault.UNKNOWN_RATER):
        test.rater("Ben")
    with refused(Fault.UNKNOWN_RATER):  # an answer that was under way
        test.keep(ben)
    rate(test, cy)
    with refused(Fault.FULL):
        test.keep(dan)
    with refused(Fault.FULL):
        test.join("Eve", "Eve", "")
    rate(test, ada)


def test_a_test_goes_on_after_a_restart() -> None:
    test = session()
    ada = test.join("Ada", "key", "")
    ratings = rate(test, ada)
    after = session(secret=b"another")
    after.restore(ratings, {"Ada": digest("key")})
    again = after.rater("key")
    trial = after.trial(again, 0)
    assert trial is not None
    assert trial.number == 2
    assert after.sound(again, trial.reference)[0] == PLAN.clips_for("Ada")[1]
    with refused(Fault.NAME_TAKEN):
        after.join("Ada", "new", "")


def test_without_its_key_a_name_stays_taken_but_opens_nothing() -> None:
    ratings = rate(test := session(), test.join("Ada", "key", ""))
    after = session()
    after.restore(ratings, {})
    for key in ("key", "Ada", ""):
        with refused(Fault.UNKNOWN_RATER):
            after.rater(key)
    with refused(Fault.NAME_TAKEN):
        after.join("Ada", "new", "")


def test_ratings_of_another_test_are_not_taken_up() -> None:
    ratings = rate(test := session(), test.join("Ada", "key", ""))
    with pytest.raises(UsageError, match=r"a clip .* that this test does not have"):
        Session(Plan(("third",), PLAN.systems), b"", 9).restore(ratings, {})
    with pytest.raises(UsageError, match="rated other systems"):
        Session(Plan(PLAN.clips, ("zebra",)), b"", 9).restore(ratings, {})


def test_bodies_of_the_right_shape() -> None:
    assert parse(Join, b'{"name": "Ada"}') == Join(name="Ada")
    assert parse(Answer, b'{"trial": "t", "scores": {"a": 0, "b": 100}}').scores == {"a": 0, "b": 100}


@pytest.mark.parametrize("score", [-1, 101, 1.5, 50.0, "50", True, None, [50], 10**400])
def test_scores_are_whole_numbers_from_0_to_100(score: object) -> None:
    with refused(Fault.MALFORMED):
        parse(Answer, json.dumps({"trial": "t", "scores": {"a": score}}).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff", b'{"trial": "t"}', b'{"trial": "t", "scores": {}}', b'{"scores": {"a": 1}}',
        b'{"trial": 1, "scores": {"a": 1}}', b'{"trial": "t", "scores": {"a": 1}, "more": 1}',
        b'{"trial": "t", "scores": {"a": NaN}}', b'{"trial": "t", "scores": [["a", 1]]}', b"[" * 4000,
        json.dumps({"trial": "t", "scores": {str(n): 1 for n in range(11)}}).encode(),
        json.dumps({"trial": "t" * 65, "scores": {"a": 1}}).encode(),
    ],
)  # fmt: skip
def test_other_bodies_are_refused(body: bytes) -> None:
    with refused(Fault.MALFORMED):
        parse(Answer, body)


@given(st.one_of(st.binary(max_size=200), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["trial", "scores", "a"]), inner),
    max_leaves=9,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_no_body_does_more_than_be_refused(body: bytes) -> None:
    try:
        found = parse(Answer, body)
    except Refused:
        return
    assert all(0 <= score <= 100 for score in found.scores.values())
