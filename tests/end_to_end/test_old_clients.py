"""A client that knows nothing of what was added after it: byte for byte as it was then.

The texts and bytes are those of the protocol before short headers, silence and frames in a message;
they must never change here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect

from earshot.protocol.close_codes import CloseCode
from earshot.protocol.messages import SUBPROTOCOL
from tests.peers import PATIENCE_S, RunningServer, join, running_server, tiny_model, until

SPEAKER = (
    '{"type": "hello", "protocol": 1, "name": "Ada", "model": "DIGEST", "send": "codes", "want": "codes",'
    ' "send_kbps": 1.5, "max_kbps": 12.0, "trace": false, "send_model": null, "also": [], "entropy": [],'
    ' "token": null}'
)
UP = [
    "02000203ffff00000000010830c0ff000408",
    "020002010200c0030000555501",
    "020102010300c0620000050000000100020000000000072000",
]
DOWN = [
    "0301010000020300ffff00000000010830c0ff000408",
    "03010100000201000200c0030000555501",
    "03010100000201000300c0620000072000",
]
"""Codes of two codebooks: three frames; one; and one behind a pause of a second, with a trace for
which this listener has not asked. Then what they come as from the speaker with the id 1."""
WELCOME = {
    "type", "protocol", "peer", "room", "model", "limits", "clock_us", "peers", "windows", "recording", "entropy",
    "may", "locked",
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(tiny_model()) as running:
        yield running


@asynccontextmanager
async def old(server: RunningServer, room: str) -> AsyncIterator[tuple[ClientConnection, dict[str, object]]]:
    async with connect(server.room(room), subprotocols=[SUBPROTOCOL], compression=None) as socket:
        await socket.send(SPEAKER.replace("DIGEST", server.model.digest))
        yield socket, json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))


async def media(socket: ClientConnection, count: int) -> list[str]:
    """Returns the next binary messages in hexadecimal."""
    found: list[str] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            message = await socket.recv()
            if isinstance(message, bytes):
                found.append(message.hex())
            else:
                assert json.loads(message)["type"] in ("peer_joined", "peer_changed", "pong", "stats"), message
    return found


async def test_it_gets_the_bytes_that_it_got(server: RunningServer) -> None:
    async with old(server, "old") as (ada, welcome), old(server, "old") as (ben, _):
        assert set(welcome) >= WELCOME
        assert (welcome["short_headers"], welcome["silence"], welcome["peer"]) == (False, False, 1)
        for up in UP:
            await ada.send(bytes.fromhex(up))
            if up == UP[1]:
                await asyncio.sleep(0.1)  # the pause that follows is not ahead of real time
        assert await media(ben, 3) == DOWN


async def test_a_new_speaker_is_heard_by_it_and_hears_it(server: RunningServer) -> None:
    new = await join(server, "mixed", send_kbps=1.5, short_headers=True, silence=True, frames=3)
    assert (new.welcome.short_headers, new.welcome.silence) == (True, True)
    async with old(server, "mixed") as (ada, _):
        await new.socket.send(bytes.fromhex(UP[0]))
        await new.socket.send(bytes.fromhex("07000200c0030000ffffffffffff"))  # a silence, which it is not told of
        await new.socket.send(bytes.fromhex("0500555501"))  # a short header: the frame of UP[1]
        assert await media(ada, 2) == DOWN[:2]
        for up in UP[:2]:
            await ada.send(bytes.fromhex(up))
        await until(lambda: sum(heard.frames for heard in new.heard.values()) == 4)
    await new.leave()


@pytest.mark.parametrize("data", ["0500555501", "07000200c0030000ffffffffffff"], ids=["short", "silence"])
async def test_what_was_not_agreed_on_is_refused(server: RunningServer, data: str) -> None:
    async with old(server, "strict") as (ada, _):
        await ada.send(bytes.fromhex(UP[0]))
        await ada.send(bytes.fromhex(data))
        async with asyncio.timeout(PATIENCE_S):
            while json.loads(await ada.recv()).get("type") != "error":
                pass
            await ada.wait_closed()
        assert ada.close_code == CloseCode.MALFORMED
