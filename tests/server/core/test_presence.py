"""Who is there, by what was heard, and whose clock differs by how much."""

from __future__ import annotations

from earshot.server.core.bus_messages import MAX_NODES, Beat, Echo
from earshot.server.core.presence import Presence


def beat(clock_us: int, digest: str = "d", **echoes: Echo) -> Beat:
    return Beat(digest=digest, clock_us=clock_us, takes_calls=True, echoes=echoes)


def presence() -> Presence:
    return Presence("a", 1, "d", 1_000_000)


def test_a_node_is_there_while_it_is_heard_of() -> None:
    here = presence()
    assert here.beat("b", 7, beat(0), 0) == (False, True)
    assert here.beat("b", 7, beat(0), 900_000) == (False, False)
    assert here.knows("b", 7)
    assert not here.knows("b", 8)
    assert here.overdue(1_900_000) == []
    assert here.overdue(1_900_001) == ["b"]
    assert not here.knows("b", 7)
    assert not here.leave("b")


def test_a_node_that_has_started_anew_is_another() -> None:
    here = presence()
    here.beat("b", 7, beat(0), 0)
    assert here.beat("b", 8, beat(0), 10) == (True, True)
    assert here.leave("b")


def test_a_node_of_the_same_name_is_noticed_and_its_own_beat_is_not() -> None:
    here = presence()
    here.beat("a", 1, beat(0), 0)
    assert not here.namesake
    here.beat("a", 2, beat(0), 0)
    assert here.namesake
    assert not here.nodes


def test_nodes_with_another_model_are_strangers() -> None:
    here = presence()
    assert here.beat("b", 7, beat(0, digest="other"), 0) == (False, False)
    assert not here.nodes
    assert here.strangers == {"b": "other"}


def test_there_are_no_more_nodes_than_there_may_be() -> None:
    here = presence()
    for number in range(2 * MAX_NODES):
        here.beat(f"n{number}", 1, beat(0), 0)
        here.beat(f"s{number}", 1, beat(0, digest="other"), 0)
    assert len(here.nodes) == MAX_NODES - 1
    assert len(here.strangers) == MAX_NODES


def test_clocks_are_compared_by_the_quickest_exchange() -> None:
    """The other clock is 5 s ahead; the ways take 100 and 300 microseconds, later 2000 and 40."""
    here, ahead = presence(), 5_000_000
    here.beat("b", 7, beat(ahead), 0)
    echo = Echo(sent_us=1000, came_us=1000 + 100 + ahead)
    here.beat("b", 7, beat(2000 + ahead, a=echo), 2300)
    node = here.nodes["b"]
    assert node.round_trip_us == 400
    assert node.ahead_us == ahead - 100
    slow = Echo(sent_us=5000, came_us=5000 + 2000 + ahead)
    here.beat("b", 7, beat(9000 + ahead, a=slow), 9040)
    assert node.ahead_us == ahead - 100
    assert here.echoes() == {"b": Echo(sent_us=9000 + ahead, came_us=9040)}
