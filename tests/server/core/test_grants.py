"""What a client may do, by what its token claims."""

from __future__ import annotations

from typing import Any

import pytest

from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import Hello, SetRate
from earshot.server.core.grants import EVERYONE, Grants, Removals, grants_of

HELLO = Hello(protocol=1, name="Mallory", send="codes", want="codes")


@pytest.mark.parametrize(
    ("pattern", "room", "allowed"),
    [
        ("den", "den", True),
        ("den", "den2", False),
        ("den", "DEN", False),
        ("team-*", "team-7", True),
        ("team-*", "teams", False),
        ("team-[0-9]", "team-x", False),
        ("*", "any", True),
        ("", "den", False),
    ],
)
def test_rooms(pattern: str, room: str, allowed: bool) -> None:
    assert Grants(pattern).allows_room(room) is allowed


@pytest.mark.parametrize(
    ("grants", "hello", "code"),
    [
        (Grants("den"), HELLO, None),
        (Grants("other"), HELLO, CloseCode.ANOTHER_ROOM),
        (Grants("den", speak=False), HELLO, CloseCode.NOT_GRANTED),
        (Grants("den", speak=False), HELLO.model_copy(update={"send": "pcm"}), CloseCode.NOT_GRANTED),
        (Grants("den", speak=False), HELLO.model_copy(update={"send": "none"}), None),
        (Grants("den", listen=False), HELLO, CloseCode.NOT_GRANTED),
        (Grants("den", listen=False), HELLO.model_copy(update={"want": "pcm"}), CloseCode.NOT_GRANTED),
        (Grants("den", listen=False), HELLO.model_copy(update={"want": "none"}), None),
    ],
)
def test_hellos(grants: Grants, hello: Hello, code: CloseCode | None) -> None:
    if code is None:
        grants.check("den", hello)
        return
    with pytest.raises(ProtocolError) as refusal:
        grants.check("den", hello)
    assert refusal.value.code == code


def test_rates_of_what_is_not_granted() -> None:
    listener, speaker = Grants("den", speak=False), Grants("den", listen=False)
    listener.check_rate(SetRate(max_kbps=3))
    speaker.check_rate(SetRate(send_kbps=3))
    for grants, message in ((listener, SetRate(send_kbps=3)), (speaker, SetRate(max_kbps=3))):
        with pytest.raises(ProtocolError) as refusal:
            grants.check_rate(message)
        assert refusal.value.code == CloseCode.NOT_GRANTED


def test_a_token_gives_the_name() -> None:
    assert Grants("den", name="Ada").named(HELLO).name == "Ada"
    assert Grants("den").named(HELLO).name == "Mallory"


@pytest.mark.parametrize(
    "grants",
    [
        Grants("den", id="x"),
        Grants("team-*", "Ada", False, True, True, True, True, 1_900_000_000, "x"),
        Grants("den", speak=True, listen=False, id="x"),
    ],
)
def test_claims_say_all_of_it(grants: Grants) -> None:
    assert grants_of(grants.claims(), "other") == grants


def test_claims_that_are_missing() -> None:
    assert grants_of({"room": "den", "iss": "somebody", "aud": ["x"]}, "hash") == Grants("den", id="hash")
    assert Grants("den").may == ["speak", "listen"]
    assert EVERYONE.may == ["speak", "listen", "record"]


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"room": None},
        {"room": ["den"]},
        {"room": "x" * 65},
        {"room": "den", "name": 7},
        {"room": "den", "speak": "yes"},
        {"room": "den", "moderate": 1},
        {"room": "den", "operate": "true"},
        {"room": "den", "jti": {"a": 1}},
    ],
)
def test_claims_of_another_type_are_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as refusal:
        grants_of(claims, "hash")
    assert refusal.value.code == CloseCode.NOT_INVITED


def test_a_name_in_a_token_loses_what_a_terminal_would_obey() -> None:
    assert grants_of({"room": "den", "name": "A\x1b[31mda\u202e"}, "").name == "A[31mda"


def test_removals_hold_for_a_room_and_a_token_and_are_bounded() -> None:
    removals = Removals(most=2)
    removals.add("den", Grants("*", id="a"))
    removals.check("other", Grants("*", id="a"))
    removals.check("den", Grants("*", id="b"))
    removals.add("den", EVERYONE)
    removals.check("den", EVERYONE)
    with pytest.raises(ProtocolError) as refusal:
        removals.check("den", Grants("den", id="a"))
    assert refusal.value.code == CloseCode.REMOVED
    removals.add("den", Grants("*", id="b"))
    removals.add("den", Grants("*", id="c"))
    removals.check("den", Grants("den", id="a"))
