"""A process of one attack, bounded in count and time.

    python -m earshot.lab.attacks.attacker

It reads one line of JSON (the attack's name, and the fields of a `Door`), prints `ready`, waits for
another line, attacks a server of this machine until its seconds are over, and prints an `Outcome`
as JSON. It ends in any case."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address

from earshot.codec.bitstream import packed_size
from earshot.codec.errors import UsageError
from earshot.lab.attacks.stranger import Door, Stranger
from earshot.lab.loadtest.wire import PING, PONG, TEXT, client_frame
from earshot.protocol.messages import Mute
from earshot.protocol.packet import Packet, encode_codes_up

MOST_FILES = 2600
GRACE_S = 5.0
"""After its seconds an attacker has so long to end, then it is cut off."""
BURST_S = 0.01
MOST_WAITING_BYTES = 1 << 18
"""A flooder whose bytes the server does not read writes no more of them."""

HALF_MADE = 2060
HEADER_LINES = 200
UNFINISHED = 420
FLOOD_BYTES_S = 1_000_000
REJOIN_S = 0.5
MUTING_PEERS, MUTES_S, PEERS_A_ROOM = 120, 19, 30
CONNECTS_S = 400
MOST_CONNECTING = 1000
ROOMS = 256
SPEAKERS = 207
STATS_CONNECTIONS, STATS_S = 4, 1400


async def _paced(count: int, seconds: float) -> AsyncIterator[int]:
    """Yields 0 to `count` - 1, evenly over so many seconds, in bursts where time ran ahead."""
    begin = time.monotonic()
    for index in range(count):
        ahead = begin + index * seconds / count - time.monotonic()
        if ahead > 0:
            await asyncio.sleep(ahead)
        elif index % 50 == 0:
            await asyncio.sleep(0)
        yield index


async def _ticks(seconds: float, every: float) -> AsyncIterator[float]:
    """Yields the seconds since the last turn until time is over."""
    begin = last = time.monotonic()
    while (now := time.monotonic()) - begin < seconds:
        yield now - last
        last = now
        await asyncio.sleep(every)


async def _many(door: Door, count: int, seconds: float, make: Callable[[int], Awaitable[object]]) -> None:
    """Starts `count` tasks over so many seconds, and waits for them."""
    tasks: set[asyncio.Task[object]] = set()
    async for index in _paced(count, seconds):
        if len(tasks) < MOST_CONNECTING:
            task = asyncio.ensure_future(make(index))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(set(tasks), timeout=max(door.seconds - seconds, 0.5))


async def _hold(door: Door, count: int, make: Callable[[int], Awaitable[object]]) -> None:
    """Opens so many connections in the first three quarters of the time, and holds them."""
    begin = time.monotonic()
    await _many(door, count, 0.75 * door.seconds, make)
    await asyncio.sleep(max(begin + door.seconds - time.monotonic(), 0))


async def nothing(door: Door) -> None:
    """Does nothing: what the table compares with."""
    await asyncio.sleep(door.seconds)


async def headers(door: Door) -> None:
    """Holds 2,060 upgrade requests with 200 header lines each."""
    lines = "".join(f"X-Line-{index}: {index}\r\n" for index in range(HEADER_LINES))
    await _hold(door, door.count(HALF_MADE), lambda _: door.connect(door.request(headers=lines)))


async def unfinished(door: Door) -> None:
    """Holds requests that are too long, or that never end."""
    kinds = [
        door.request(headers=f"X-Long: {'x' * 30_000}\r\n"),
        door.request(path="/v1/rooms/" + "x" * 40_000),
        door.request(headers=f"Cookie: {'x' * 9_000}\r\n"),
        door.request(headers="Content-Length: 1000\r\n") + b"x",
        f"POST /stats HTTP/1.1\r\nHost: {door.host}\r\nContent-Length: 1000\r\n\r\nx".encode(),
        door.request()[:-2],
        b"",
    ]
    await _hold(door, door.count(UNFINISHED), lambda index: door.connect(kinds[index % len(kinds)]))


async def _flood(door: Door, opcode: int) -> None:
    """Sends 1 MB/s of empty control frames; comes again when it is closed."""
    frame = client_frame(opcode, b"")
    owed, peer, since = 0.0, None, 0.0
    async for elapsed in _ticks(door.seconds, BURST_S):
        if peer is None or peer.gone.is_set():
            since += elapsed
            if peer is None or since > REJOIN_S:
                peer, owed, since = await door.join("stranger", send="none"), 0.0, 0.0
            continue
        owed = min(owed + elapsed * FLOOD_BYTES_S * door.scale, FLOOD_BYTES_S / 4)
        frames = int(owed / len(frame))
        if frames and peer.waiting_bytes < MOST_WAITING_BYTES:
            peer.send(frame * frames)
            owed -= frames * len(frame)


async def pings(door: Door) -> None:
    """Floods the server with pings."""
    await _flood(door, PING)


async def pongs(door: Door) -> None:
    """Floods the server with pongs that it never asked for."""
    await _flood(door, PONG)


async def mutes(door: Door) -> None:
    """Lets 120 peers, in rooms of 30, mute 19 times a second each."""
    peers: list[Stranger] = []

    async def come(index: int) -> None:
        if (peer := await door.join(f"mutes-{index // PEERS_A_ROOM}", send="none")) is not None:
            peers.append(peer)

    begin = time.monotonic()
    await _many(door, door.count(MUTING_PEERS), 0.15 * door.seconds, come)
    frames = [client_frame(TEXT, Mute(muted=muted).model_dump_json().encode()) for muted in (True, False)]
    turn = 0
    left = begin + door.seconds - time.monotonic()
    async for index in _paced(max(round(left * MUTES_S * len(peers)), 1), max(left, 0.1)):
        if peers:
            turn = index // len(peers)
            peers[index % len(peers)].send(frames[turn % 2])


async def connects(door: Door) -> None:
    """Opens 400 connections a second, and leaves each once it was answered."""

    async def come(_: int) -> None:
        stranger = await door.connect(door.request())
        if stranger is not None:
            await asyncio.wait([stranger.answer], timeout=2.0)
            stranger.leave()

    await _many(door, door.count(round(CONNECTS_S * door.seconds)), door.seconds, come)


async def rooms(door: Door) -> None:
    """Takes 256 rooms with a peer in each."""
    await _hold(door, door.count(ROOMS), lambda index: door.join(f"taken-{index}", send="none"))


async def speakers(door: Door) -> None:
    """Lets 207 peers send one packet each to a listener that wants PCM, and then hold their
    place."""
    packet = encode_codes_up(Packet(2, 1, 0, 0, bytes(packed_size(2, 1))))

    async def come(index: int) -> None:
        room = f"speakers-{index // PEERS_A_ROOM}"
        if index % PEERS_A_ROOM == 0:
            await door.join(room, send="none", want="pcm")
        elif (peer := await door.join(room, send="codes", want="none")) is not None:
            peer.send(client_frame(0x82, packet))

    await _hold(door, door.count(SPEAKERS), come)


async def stats(door: Door) -> None:
    """Asks for `/stats` 1,400 times a second on each of four connections."""
    request = f"GET /stats HTTP/1.1\r\nHost: {door.host}:{door.port}\r\n\r\n".encode()
    asking: list[Stranger | None] = [await door.connect() for _ in range(door.count(STATS_CONNECTIONS))]
    async for elapsed in _ticks(door.seconds, BURST_S):
        for index, stranger in enumerate(asking):
            if stranger is None or stranger.gone.is_set():
                asking[index] = stranger = await door.connect()
            if stranger is not None and stranger.waiting_bytes < MOST_WAITING_BYTES:
                stranger.send(request * max(round(elapsed * STATS_S * door.scale), 1))


ATTACKS: dict[str, Callable[[Door], Awaitable[None]]] = {
    attack.__name__: attack
    for attack in (nothing, headers, unfinished, pings, pongs, mutes, connects, rooms, speakers, stats)
}


async def attack(name: str, door: Door) -> None:
    """Runs one attack to its end, and cuts all its connections. Raises UsageError for a server that
    is not on this machine."""
    if not (ip_address(door.host).is_loopback and ip_address(door.source).is_loopback):
        raise UsageError(f"{door.host} is not this machine; attacks are for loopback addresses only")
    try:
        async with asyncio.timeout(door.seconds + GRACE_S):
            await ATTACKS[name](door)
    except TimeoutError:
        pass
    finally:
        for stranger in door.strangers:
            stranger.leave()


def main() -> None:
    """Reads what to do, does it and prints what came of it. A real attacker would take nothing of
    this machine's processor, so this one takes only what the others leave."""
    os.nice(19)
    told = json.loads(sys.stdin.readline())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    name = told.pop("attack")
    door = Door(**told)
    print("ready", flush=True)
    if not sys.stdin.readline():
        return
    asyncio.run(attack(name, door))
    print(json.dumps(door.outcome.to_json()), flush=True)


if __name__ == "__main__":
    main()
