"""What one address may hold of something that all share."""

from __future__ import annotations

import pytest

from earshot.server.core.address_shares import AddressShares


def test_what_is_taken_is_counted_by_address_until_it_is_given_back() -> None:
    shares = AddressShares()
    for address in ("a", "a", "b"):
        shares.take(address)
    assert (shares.held("a"), shares.held("b"), shares.held("c")) == (2, 1, 0)
    assert (shares.total(), len(shares)) == (3, 2)
    shares.give_back("a")
    shares.give_back("b")
    assert (shares.held("a"), shares.held("b"), shares.total(), len(shares)) == (1, 0, 1, 1)


def test_an_address_that_was_only_asked_about_is_not_kept() -> None:
    shares = AddressShares()
    assert shares.held("a") == 0
    assert shares.may_take("a", 1, 1.0)
    assert len(shares) == 0
    assert not shares


def test_nobody_gives_back_what_he_does_not_have() -> None:
    shares = AddressShares()
    shares.take("a")
    with pytest.raises(ValueError, match="b has nothing"):
        shares.give_back("b")
    assert (shares.total(), len(shares)) == (1, 1)


@pytest.mark.parametrize(
    ("held", "capacity", "share", "allowed"),
    [
        (0, 1, 0.5, True),
        (1, 2, 0.5, False),
        (1, 3, 0.5, True),
        (29, 60, 0.5, True),
        (30, 60, 0.5, False),
        (59, 60, 1.0, True),
        (0, 0, 0.5, False),
    ],
)
def test_an_address_has_its_share(held: int, capacity: int, share: float, allowed: bool) -> None:
    shares = AddressShares()
    for _ in range(held):
        shares.take("a")
    shares.take("b")
    assert shares.may_take("a", capacity, share) is allowed
