"""The connection to NATS, with a real server."""

from __future__ import annotations

from earshot.server.nodes.bus import Bus
from tests.nats_server import NatsServer
from tests.peers import until


async def test_what_waited_when_the_connection_ended_is_not_sent_by_the_next_one() -> None:
    came: list[bytes] = []
    with NatsServer() as server:
        talks = Bus(server.url, "a", 1, 0.5, lambda data: None, lambda: None)
        hears = Bus(server.url, "b", 2, 0.01, came.append, lambda: None)
        for bus in (talks, hears):
            await bus.start()
        try:
            await until(lambda: talks.connected and hears.connected)
            await until(lambda: talks.tell("b", b"before") or b"before" in came)  # b listens now
            talks.tell("b", b"late")
            server.kill()
            await until(lambda: not talks.connected and not hears.connected)
            server.start()
            await until(lambda: talks.connected and hears.connected)
            await until(lambda: talks.tell("b", b"after") or b"after" in came)
            assert b"late" not in came
        finally:
            for bus in (talks, hears):
                await bus.stop()
