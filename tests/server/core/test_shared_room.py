"""A room that several nodes serve, from the view of one of them."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.codec.bitstream import pack
from earshot.protocol.close_codes import ProtocolError
from earshot.protocol.messages import (
    PROTOCOL,
    Hello,
    Moderated,
    PeerChanged,
    PeerInfo,
    PeerJoined,
    PeerLeft,
    Recording,
)
from earshot.protocol.packet import Packet
from earshot.server.core import bus_messages as bus
from earshot.server.core.bus_messages import Change, Member, RoomState, Who
from earshot.server.core.room import MAX_SPEAKING_GUESTS, MAX_TOGETHER, Peer, Room
from earshot.server.core.send_queue import DegradationPolicy
from earshot.server.core.shared_room import SharedRoom
from tests.peers import TINY


def info(number: int, name: str = "", **more: object) -> PeerInfo:
    shown = {"send": "codes", "want": "codes", "send_kbps": 6.0, "max_kbps": 12.0} | more
    return PeerInfo(id=number, name=name, **shown)  # type: ignore[arg-type]


def state(*members: PeerInfo, number: int = 5, version: int = 1, **more: bool) -> RoomState:
    return RoomState(
        room="den", number=number, version=version, members=[Member(info=each) for each in members], **more
    )


def new_room(max_peers: int = 32) -> tuple[Room, SharedRoom]:
    room = Room("den", TINY, max_peers, DegradationPolicy(), 2000)
    return room, SharedRoom("a", room, TINY, 1)


def come_in(room: Room, name: str = "", **hello: object) -> Peer:
    said = Hello(**{"protocol": PROTOCOL, "model": "m", "send": "codes", "name": name, **hello})  # type: ignore[arg-type]
    return room.join(said, 0)[0]


def test_people_of_other_nodes_get_ids_and_names_of_their_own_here() -> None:
    room, shared = new_room()
    ada = come_in(room, "Ada")
    told = shared.take_state("b", state(info(1, "Ada"), info(2, "Bob")))
    assert [type(message) for message in told] == [PeerJoined, PeerJoined]
    guests = {guest.name: guest for guest in room.guests.values()}
    assert guests.keys() == {"Ada (2)", "Bob"}
    assert len({ada.id, *room.guests}) == 3
    assert shared.guest("b", 2) is guests["Bob"]
    assert come_in(room, "bob").name == "bob (2)"
    assert shared.here(Who(node="b", id=2)) == guests["Bob"].id
    assert shared.there(guests["Bob"].id) == Who(node="b", id=2)
    assert shared.here(Who(node="a", id=ada.id)) == ada.id
    assert shared.there(ada.id) == Who(node="a", id=ada.id)
    assert shared.here(Who(node="c", id=1)) is None
    assert [each.name for each in room.others(ada)] == ["bob (2)", "Ada (2)", "Bob"]


def test_changes_follow_on_each_other_or_the_whole_is_asked_for() -> None:
    room, shared = new_room()
    assert shared.take_change("b", Change(room="den", version=2, left=1)) is None
    shared.take_state("b", state(info(1, "Bob"), version=4))
    changed = shared.take_change("b", Change(room="den", version=5, member=Member(info=info(1, "Bob", muted=True))))
    assert changed is not None
    assert isinstance(changed[0], PeerChanged)
    assert changed[0].peer.muted
    assert shared.take_change("b", Change(room="den", version=7, left=1)) is None
    assert len(room.guests) == 1
    gone = shared.take_change("b", Change(room="den", version=6, left=1, reason="went"))
    assert gone == [PeerLeft(id=changed[0].peer.id, reason="went")]
    assert not room.guests


def test_a_state_says_who_has_gone_meanwhile() -> None:
    room, shared = new_room()
    shared.take_state("b", state(info(1), info(2), version=1))
    told = shared.take_state("b", state(info(2), info(3), version=9))
    assert [type(message) for message in told] == [PeerLeft, PeerJoined]
    assert {guest.id_there for guest in room.guests.values()} == {2, 3}
    assert shared.take_state("b", state(info(2), info(3), version=9)) == []


def test_with_a_node_its_people_go() -> None:
    room, shared = new_room()
    shared.take_state("b", state(info(1), info(2)))
    shared.take_state("c", state(info(1)))
    told = shared.drop("b", "gone")
    assert [type(message) for message in told] == [PeerLeft, PeerLeft]
    assert {guest.node for guest in room.guests.values()} == {"c"}
    assert shared.drop("b") == []


def test_packets_go_where_anybody_takes_them_at_the_best_rate_that_is_taken() -> None:
    room, shared = new_room()
    ada = come_in(room, "Ada")
    shared.take_state("b", state(info(1, max_kbps=1.5), info(2, max_kbps=3.0, want="pcm")))
    shared.take_state("c", state(info(1, want="none")))
    shared.take_state("d", state(info(1)))
    packet = Packet(8, 1, 0, 0, pack(np.arange(8)[:, None]))
    wanted = shared.wanted(ada, packet)
    assert {node: (each.n_q, each.source) for node, each in wanted.items()} == {"b": (4, ada.id), "d": (8, ada.id)}
    assert shared.listening(ada) == ["b", "d"]
    shared.take_change("b", Change(room="den", version=2, left=2))
    assert shared.wanted(ada, packet)["b"].n_q == 2


def test_locks_and_recordings_are_those_of_all_nodes() -> None:
    room, shared = new_room()
    told = shared.take_state("b", state(info(1), locked=True, recording=True))
    assert room.locked
    assert told[1:] == [Moderated(action="lock"), Recording(on=True)]
    assert shared.recorded
    assert shared.take_change("b", Change(room="den", version=2, recording=False)) == [Recording(on=False)]
    shared.recording = True  # then it is recorded here in any case, and those who are here know
    assert shared.take_change("b", Change(room="den", version=3, recording=True)) == []
    unlocked = bus.Moderated(room="den", action="unlock", by=Who(node="b", id=1))
    assert shared.moderated(unlocked) == Moderated(action="unlock", by=next(iter(room.guests)))
    assert not room.locked


def test_a_room_has_no_more_speakers_than_a_message_can_hold_and_a_bound_for_all() -> None:
    room, shared = new_room(max_peers=1200)
    for node in ("b", "c"):
        shared.take_state(node, state(*(info(number + 1) for number in range(200))))
    assert len(room.guests) == MAX_SPEAKING_GUESTS
    with pytest.raises(ProtocolError, match="200 speak"):
        come_in(room)
    come_in(room, send="none")
    for node in ("d", "e"):
        shared.take_state(node, state(*(info(number + 1, send="none") for number in range(800))))
    assert len(room.peers) + len(room.guests) == MAX_TOGETHER
    with pytest.raises(ProtocolError, match="1200 peers"):
        come_in(room, send="none")


def test_a_nodes_own_part_tells_its_peers_alone() -> None:
    room, shared = new_room()
    ada = come_in(room, "Ada", also=["other"])
    shared.take_state("b", state(info(1)))
    mine = shared.state()
    assert [(each.info.id, each.also) for each in mine.members] == [(ada.id, ["other"])]
    assert shared.change(Change(room="den", version=0, left=ada.id)).version == 1
    assert shared.state().version == 1
