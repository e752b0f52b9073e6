"""What one address may hold of something that all share."""

from __future__ import annotations

import pytest

from earshot.server.core.address_shares import AddressShares, address_key


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


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("a socket", "a socket"),
    ],
)
def test_an_address_of_ipv6_counts_as_its_network(address: str, key: str) -> None:
    assert address_key(address) == key


def test_addresses_of_one_ipv6_network_share() -> None:
    shares = AddressShares()
    shares.take("2001:db8::1")
    assert shares.held("2001:db8::2") == 1
    assert not shares.may_take("2001:db8::3", 2, 0.5)
    assert shares.may_take("2001:db8:0:1::3", 2, 0.5)
    shares.give_back("2001:db8::4")
    assert len(shares) == 0
