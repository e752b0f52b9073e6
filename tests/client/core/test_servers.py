"""Which server a call goes to next."""

from __future__ import annotations

from earshot.client.core.servers import BACKOFF_MAX_S, BACKOFF_S, MAX_SERVERS, Servers


def test_one_server_is_tried_again_and_again() -> None:
    servers = Servers(["ws://a"])
    assert servers.alone
    for joined, ends in ((True, False), (False, False), (True, True)):
        servers.lost(joined, ends)
        assert servers.url == "ws://a"


def test_the_same_server_is_tried_first_and_then_they_take_turns() -> None:
    servers = Servers(["ws://a", "ws://b", "ws://a"])
    servers.lost(joined=True, ends=False)
    assert servers.url == "ws://a", "it may have kept the place"
    seen = []
    for _ in range(4):
        servers.lost(joined=False, ends=False)
        seen.append(servers.url)
    assert seen == ["ws://b", "ws://a", "ws://b", "ws://a"]


def test_those_that_the_server_names_come_after_those_that_the_user_did() -> None:
    servers = Servers(["ws://a"], lambda server: f"{server}/den")
    servers.tell(["ws://b", "ws://c"])
    servers.lost(joined=False, ends=False)
    assert servers.url == "ws://b/den"
    servers.tell(["ws://c"])  # the one at b knows only c, and so b is no longer one to try
    assert servers.all == ["ws://a/den", "ws://c/den"]
    servers.lost(joined=False, ends=False)
    assert servers.url == "ws://a/den"


def test_a_server_that_ends_is_left_for_one_that_it_names() -> None:
    servers = Servers(["ws://a", "ws://b"])
    servers.tell(["ws://c"])
    servers.lost(joined=True, ends=True)
    assert servers.url == "ws://c"
    servers.tell([])
    servers.lost(joined=True, ends=True)
    assert servers.url == "ws://a"


def test_tries_become_rarer_until_one_succeeds() -> None:
    servers = Servers(["ws://a", "ws://b"])
    servers.lost(joined=False, ends=False)
    assert not servers.none
    servers.lost(joined=False, ends=False)
    assert servers.none
    waits = []
    for _ in range(10):
        servers.lost(joined=False, ends=False)
        waits.append(servers.wait_s)
    assert waits == sorted(waits)
    assert waits[-1] == BACKOFF_MAX_S
    servers.lost(joined=True, ends=False)
    assert servers.wait_s == BACKOFF_S
    servers.tell(["ws://b"])
    servers.lost(joined=True, ends=True)
    assert servers.wait_s == 0


def test_behind_a_proxy_the_same_address_is_another_server() -> None:
    servers = Servers(["wss://x"])
    servers.tell(["wss://x", "wss://x"])
    servers.lost(joined=True, ends=True)
    assert servers.url == "wss://x"
    assert servers.alone


def test_tls_is_not_given_up_and_a_server_cannot_name_very_many() -> None:
    servers = Servers(["wss://a"])
    servers.tell(["ws://b", *(f"wss://n{number}" for number in range(50))])
    assert all(each.startswith("wss:") for each in servers.all)
    assert len(servers.all) == MAX_SERVERS
