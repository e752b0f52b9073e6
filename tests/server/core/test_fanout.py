"""What peers change, in fake time."""

from __future__ import annotations

from collections import Counter

from earshot.server.core.fanout import ChangedPeers
from earshot.server.core.rate_limit import AddressBuckets, TokenBucket

SECOND = 1_000_000


def changed(
    room: float = 1000, address: float = 1000, rate: float = 100, counts: Counter[str] | None = None
) -> ChangedPeers:
    return ChangedPeers(
        TokenBucket(rate, room, 0), AddressBuckets(rate, address), Counter() if counts is None else counts
    )


def test_a_peer_that_changes_often_is_told_once() -> None:
    counts: Counter[str] = Counter()
    peers = changed(counts=counts)
    for _ in range(20):
        peers.add(1, "a")
    assert list(peers.due(3, 0)) == [1]
    assert (len(peers), list(peers.due(3, 0))) == (0, [])
    assert counts == {"told": 1, "replaced": 19}


def test_over_the_budget_of_a_room_changes_wait_their_turn() -> None:
    peers = changed(room=20)
    for peer_id in (3, 1, 2):
        peers.add(peer_id, "a")
    assert list(peers.due(10, 0)) == [3, 1]
    peers.add(3, "a")
    assert list(peers.due(10, SECOND // 20)) == []
    assert list(peers.due(10, SECOND // 10)) == [2]
    assert list(peers.due(10, SECOND // 5)) == [3]


def test_an_address_over_its_budget_does_not_hold_up_others_of_the_room() -> None:
    peers = changed(address=10)
    peers.add(1, "a")
    peers.add(2, "a")
    peers.add(3, "b")
    assert list(peers.due(10, 0)) == [1, 3]
    assert list(peers.due(10, SECOND)) == [2]


def test_copies_over_a_second_keep_to_the_rate_whatever_comes() -> None:
    peers = changed(room=200, rate=100)
    copies = 0
    for now_us in range(0, 10 * SECOND, 50_000):
        for peer_id in range(30):
            peers.add(peer_id, f"192.0.2.{peer_id}")
        copies += 29 * len(list(peers.due(29, now_us)))
    assert 1000 <= copies <= 1200


def test_of_one_that_left_nothing_is_told() -> None:
    peers = changed()
    peers.add(1, "a")
    peers.forget(1)
    peers.forget(2)
    assert list(peers.due(1, 0)) == []
