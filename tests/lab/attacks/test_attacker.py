"""Attackers against a server that only listens: what they send, and that they end by
themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from earshot.codec.errors import UsageError
from earshot.lab.attacks.attacker import ATTACKS, GRACE_S, attack
from earshot.lab.attacks.stranger import Door


class Listener:
    """Answers each upgrade, and keeps what comes first on each connection."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.peers: list[str] = []
        self.bytes = 0
        self.server: asyncio.Server

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append(writer.get_extra_info("peername")[0])
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            while data := await reader.read(1 << 16):
                self.bytes += len(data)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    heard = Listener()
    heard.server = await asyncio.start_server(heard, "127.0.0.1", 0)
    yield heard
    heard.server.close()


def door(listener: Listener, seconds: float = 1.0, scale: float = 0.02) -> Door:
    return Door("127.0.0.1", listener.server.sockets[0].getsockname()[1], "127.0.0.2", "digest", seconds, scale)


@pytest.mark.parametrize("name", ATTACKS)
async def test_each_attack_comes_from_its_own_address_and_ends(listener: Listener, name: str) -> None:
    entry = door(listener)
    await asyncio.wait_for(attack(name, entry), entry.seconds + GRACE_S + 5)
    assert set(listener.peers) <= {"127.0.0.2"}
    assert bool(entry.outcome.opened) == (name != "nothing")
    assert entry.outcome.ended.total() == entry.outcome.ended["refused"], "the attacker left by itself"


async def test_half_made_requests_have_200_headers_more(listener: Listener) -> None:
    await attack("headers", door(listener))
    assert listener.heads
    assert all(head.count(b"X-Line-") == 200 for head in listener.heads)


async def test_a_flood_has_the_rate_that_it_was_scaled_to(listener: Listener) -> None:
    entry = door(listener, seconds=2.0)
    await attack("pings", entry)
    assert 0 < entry.outcome.sent_bytes < 2.0 * 20_000 + 10_000


async def test_other_machines_are_refused() -> None:
    with pytest.raises(UsageError, match="loopback"):
        await attack("pings", Door("192.0.2.1", 80, "127.0.0.2", "digest", 1.0, 0.01))
