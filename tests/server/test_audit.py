"""The audit log: what it says, how it shows what strangers wrote, and how much of it there can
be."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import websockets

from earshot.protocol.messages import SUBPROTOCOL, Record, Recording
from earshot.server import audit as audit_module
from earshot.server.audit import KINDS, MAX_TEXT, Audit, logging_to_stderr, quote
from earshot.server.net.transport.http import MAX_LINE_BYTES
from tests.peers import join, running_server, tiny_model, until
from tests.server.access.test_paths import EXPIRED, SECRET, token


@pytest.fixture
def audited(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Returns the lines of the audit log so far."""
    caplog.set_level(logging.INFO, "earshot.audit")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "earshot.audit"]


def test_what_strangers_write_stays_on_its_line_and_is_short() -> None:
    assert quote('Zoë "the\\one"') == '"Zoë \\"the\\\\one\\""'
    assert quote("a\r\nb\x1b[2Jc\x00\x7f\x85") == '"a\\u000d\\u000ab\\u001b[2Jc\\u0000\\u007f\\u0085"'
    assert quote("\u202egnp\u2028\U000e0041") == '"\\u202egnp\\u2028\\U000e0041"'
    assert quote("x" * (MAX_TEXT + 1)) == '"' + "x" * MAX_TEXT + '"...'


async def test_who_reads_slowly_is_noted_once_for_what_it_missed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "earshot.audit")
    with running_server(tiny_model()) as server:
        peer = await join(server, "den", name='Zoë "slow"')
        live = server.hub.rooms["den"]
        live.room.peers[peer.id].queue.frames_dropped = 3
        for _ in range(2):
            server.call_soon(lambda: live.note_slow(server.hub.audit))
        await until(lambda: "cut=0" in caplog.text)
        live.room.peers[peer.id].queue.codebooks_cut = 8
        server.call_soon(lambda: live.note_slow(server.hub.audit))
        await until(lambda: "cut=8" in caplog.text)
        await peer.leave()
    slow = [record.message for record in caplog.records if record.message.startswith("slow ")]
    seen = 'slow address="127.0.0.1" room="den" peer=1 name="Zoë \\"slow\\"" dropped=3'
    assert slow == [f"{seen} cut=0", f"{seen} cut=8"]


def test_a_flood_is_counted_and_hides_nothing_of_another_kind(audited: Callable[[], list[str]]) -> None:
    now = 0.0
    due: list[Callable[[], None]] = []
    audit = Audit(60, lambda: now, lambda seconds, work: due.append(work))
    for number in range(1000):
        audit.note("refused", address="10.0.0.7", code=4005, reason=f"flood {number}")
    audit.note("joined", address="10.0.0.8", name=None)
    lines = audited()
    assert len(lines) == 60 // len(KINDS) + 1
    assert lines[0] == 'refused address="10.0.0.7" code=4005 reason="flood 0"'
    assert lines[-1] == 'joined address="10.0.0.8"'
    (summarise,) = due
    summarise()
    assert audited()[-1] == f"not shown, too many a second: {1000 - 60 // len(KINDS)} more refused"
    now = 1.0
    audit.note("refused", code=4006)
    assert audited()[-1] == "refused code=4006"
    assert len(audited()) == len(lines) + 2


def test_a_flood_that_goes_on_is_counted_window_by_window(audited: Callable[[], list[str]]) -> None:
    now = 0.0
    audit = Audit(5, lambda: now, lambda seconds, work: None)
    for _ in range(3):
        for _ in range(4):
            audit.note("gone", address="a")
        now += 1.0
    assert audited() == 2 * ['gone address="a"', "not shown, too many a second: 3 more gone"] + ['gone address="a"']


def test_a_log_that_nobody_reads_holds_up_neither_the_server_nor_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "MAX_LINES_WAITING", 10)
    monkeypatch.setattr(audit_module, "STOP_TIMEOUT_S", 0.1)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    done = threading.Event()

    def log_much() -> None:
        with logging_to_stderr("info", writer):
            for _ in range(100):
                logging.getLogger("earshot.audit").info("x" * 5000)
        done.set()

    threading.Thread(target=log_much, daemon=True).start()
    try:
        assert done.wait(30)
    finally:
        os.close(reader)  # what hangs fails now; the other end stays open, for its number would be used anew


async def test_who_joins_leaves_and_is_refused_is_logged(audited: Callable[[], list[str]]) -> None:
    with running_server(tiny_model()) as server:
        ada = await join(server, "den", name="Ada")
        await ada.leave()
        async with websockets.connect(server.room("bad!name"), subprotocols=[SUBPROTOCOL]) as stranger:
            await stranger.wait_closed()
        async with websockets.connect(server.room("den%1B%5B2J"), subprotocols=[SUBPROTOCOL]) as stranger:
            await stranger.wait_closed()
        wrong = await join(server, "den", name="Ben")
        await wrong.socket.send(b"\xff\xff")
        await wrong.closed()
        await until(lambda: len(audited()) == 6)
    lines = audited()
    assert lines[0] == 'joined address="127.0.0.1" room="den" peer=1 name="Ada" send="codes" want="codes"'
    assert lines[1].startswith('left address="127.0.0.1" room="den" peer=1 name="Ada" code=1000 reason=')
    assert lines[2].startswith('refused address="127.0.0.1" room="bad!name" code=4012 reason="a room name is')
    assert lines[3].startswith('refused address="127.0.0.1" room="den\\u001b[2J" code=4012 ')
    assert lines[5].startswith('left address="127.0.0.1" room="den" peer=1 name="Ben" code=40')


async def test_who_is_refused_over_http_is_logged(audited: Callable[[], list[str]]) -> None:
    """As a client is that asks for the model first, and then does not call."""
    with running_server(tiny_model(), token_key=SECRET) as server:
        url = server.url.replace("ws", "http", 1)
        for path, bearer, status in (
            ("/v1/model", None, 401),
            ("/v1/rooms/den", EXPIRED, 401),
            ("/v1/rooms/den", token(room="other"), 403),
            ("/stats", token(), 403),
        ):
            headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
            assert (await asyncio.to_thread(httpx.get, url + path, headers=headers)).status_code == status
        lines = [line for line in audited() if line.startswith("refused")]
    begins = 'refused address="127.0.0.1" path='
    assert [line.split(" reason=")[0] for line in lines] == [
        f'{begins}"/v1/model" code=4015',
        f'{begins}"/v1/rooms/den" code=4016',
        f'{begins}"/v1/rooms/den" code=4017',
        f'{begins}"/stats" code=4018',
    ]


async def test_recordings_are_logged(audited: Callable[[], list[str]], tmp_path: Path) -> None:
    settings = {"record_to": tmp_path, "record_on_request": True, "record_rooms": "always*", "record_max_at_once": 1}
    with running_server(tiny_model(), **settings) as server:
        ada = await join(server, "den", name="Ada")
        await ada.say(Record(on=True))
        await until(lambda: ada.of(Recording))
        waits = await join(server, "always")
        await ada.say(Record(on=False))
        await until(lambda: len(ada.of(Recording)) == 2)
        await ada.say(Record(on=True))
        await until(lambda: len(ada.of(Recording)) == 3)
        await ada.leave()
        await waits.leave()
        lines = [line for line in audited() if line.startswith("recording")]
    expected = [
        'recording what="started" room="den" peer=1',
        'recording what="missing" room="always" reason="this server records as many rooms as it may"',
        'recording what="ended" room="den" peer=1 reason="Ada ended it"',
    ]
    assert [line for line in lines if line in expected] == expected
    assert any(line.startswith('recording what="refused" room="den" peer=1 reason="') for line in lines)


async def test_who_never_reaches_a_room_is_logged_too(audited: Callable[[], list[str]]) -> None:
    with running_server(tiny_model(), stats_requests_per_second=0.5) as server:
        port = int(server.url.rsplit(":", 1)[1])
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(server.room("den"), subprotocols=[SUBPROTOCOL], origin="https://evil.example")
        for _ in range(3):
            await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{port}/stats")
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_LINE_BYTES + b"\r\n\r\n")
        lines = [
            'turned_away address="127.0.0.1" reason="foreign_page"',
            'turned_away address="127.0.0.1" reason="too_many_stats_requests"',
            'turned_away address="127.0.0.1" reason="head_too_large"',
        ]
        await until(lambda: set(lines) <= set(audited()))
        writer.close()
