"""A small crowd hears everything of a real server, and the figures say so."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from earshot.codec.errors import CallError
from earshot.lab.loadtest.fanout import Crowd, sizes
from earshot.lab.loadtest.generator import Call
from earshot.server.core import refusals
from tests.peers import HOP, running_server, tiny_model


def test_a_crowd_hears_every_frame() -> None:
    with running_server(tiny_model(), max_peers_per_room=8) as server:
        call = Call(server.url, server.model.digest, 6.0, HOP, 24_000)
        with closing(Crowd(call, [server.url], rooms=1, frames=3)) as crowd:
            crowd.add_speakers(1)
            crowd.add_listeners(6)
            row = crowd.measure(0.5, lambda: [0.0])
            assert (row.listeners, row.lost, row.closed) == (6, 0, 0)
            assert row.heard > 6 * 20
            assert row.added_p50 is not None
            assert row.added_p99 is not None
            with pytest.raises(CallError, match="is full"):
                crowd.add_listeners(8)


def test_those_whom_the_server_sends_away_are_counted() -> None:
    with running_server(tiny_model()) as server:
        call = Call(server.url, server.model.digest, 6.0, HOP, 24_000)

        def send_all_away() -> None:
            for connection in list(server.hub.connections):
                connection.fail(refusals.shutting_down())

        with closing(Crowd(call, [server.url], rooms=1, frames=3)) as crowd:
            crowd.add_speakers(1)
            crowd.add_listeners(2)
            server.call_soon(send_all_away)
            assert crowd.measure(0.5, lambda: [0.0]).closed == 3
            crowd.speakers[0].socket.shutdown(socket.SHUT_RDWR)  # as the server's end does it later
            crowd.go_on(0.1)


def test_a_crowd_grows_in_steps() -> None:
    assert sizes(1000) == [250, 500, 750, 1000]
    assert sizes(2) == [1, 2]
