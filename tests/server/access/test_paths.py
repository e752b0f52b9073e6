"""A server that lets in only those who were invited, from outside: each way in is tried without the
grant for it."""

from __future__ import annotations

import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from websockets.asyncio.client import connect

from earshot.protocol.close_codes import CloseCode
from earshot.protocol.messages import (
    PROTOCOL,
    SUBPROTOCOL,
    Error,
    Hello,
    Moderate,
    Moderated,
    Mute,
    PeerChanged,
    PeerLeft,
    Record,
    Recording,
    SetRate,
    parse_server,
)
from earshot.server.access.keys import key_of
from earshot.server.access.tokens import Tokens, expiry
from earshot.server.core.grants import Grants
from tests.peers import PATIENCE_S, RunningServer, TestPeer, join, running_server, tiny_model, until

SECRET = "a secret of a server that is only tested"
TOKENS = Tokens(key_of(SECRET.encode(), ""))
PUBLIC = {"/healthz", "/readyz"}
"""What everyone may ask: it tells nothing of rooms or people."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    recordings = tmp_path_factory.mktemp("recordings")
    with running_server(
        tiny_model(), token_key=SECRET, record_on_request=True, record_to=recordings, health_port=0
    ) as server:
        yield server


def token(**grants: Any) -> str:
    return TOKENS.make(Grants(**{"room": "den", **grants}))


def ask(url: str, bearer: str | None = None, method: str = "GET", body: Any = None) -> tuple[int, Any]:
    """Returns status and JSON."""
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    data = None if body is None else json.dumps(body).encode()
    headers |= {"Content-Type": "application/json"} if data else {}
    request = urllib.request.Request(url.replace("ws", "http", 1), data, headers, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")


async def refused(server: RunningServer, room: str = "den", **hello: Any) -> Error:
    """Returns the error with which the server closes the connection of this hello."""
    peer = await connect(server.room(room), subprotocols=[SUBPROTOCOL], open_timeout=PATIENCE_S)  # type: ignore[list-item]
    fields = {"protocol": PROTOCOL, "model": server.model.digest, "send": "codes", **hello}
    await peer.send(Hello(**fields).model_dump_json())
    error = parse_server(str(await peer.recv()))
    assert isinstance(error, Error), error
    await peer.wait_closed()
    assert peer.close_code == error.code
    return error


EXPIRED = jwt.encode({"room": "den", "exp": int(time.time()) - 1}, SECRET, "HS256")
FORGED = jwt.encode({"room": "den"}, "b" + SECRET[1:], "HS256")


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        ({}, CloseCode.NOT_INVITED),
        ({"token": ""}, CloseCode.NOT_INVITED),
        ({"token": FORGED}, CloseCode.NOT_INVITED),
        ({"token": EXPIRED}, CloseCode.TOKEN_EXPIRED),
        ({"token": token(room="other")}, CloseCode.ANOTHER_ROOM),
        ({"token": token(speak=False)}, CloseCode.NOT_GRANTED),
        ({"token": token(speak=False), "send": "pcm"}, CloseCode.NOT_GRANTED),
        ({"token": token(listen=False)}, CloseCode.NOT_GRANTED),
        ({"token": token(listen=False), "want": "pcm", "send": "none"}, CloseCode.NOT_GRANTED),
    ],
)
async def test_a_hello_without_the_grant(server: RunningServer, hello: dict[str, Any], code: CloseCode) -> None:
    before = server.hub.closed[code]
    assert (await refused(server, **hello)).code == code
    assert server.hub.closed[code] == before + 1
    assert "den" not in server.hub.rooms


@pytest.mark.parametrize(
    ("grants", "message"),
    [
        ({"speak": False}, SetRate(send_kbps=12)),
        ({"listen": False}, SetRate(max_kbps=12)),
        ({}, Moderate(action="lock")),
        ({}, Moderate(action="mute", peer=1)),
        ({"record": True}, Moderate(action="remove", peer=1)),
    ],
)
async def test_a_message_without_the_grant(server: RunningServer, grants: dict[str, Any], message: Any) -> None:
    hello: dict[str, Any] = {"send": "codes" if grants.get("speak", True) else "none"}
    hello |= {} if grants.get("listen", True) else {"want": "none"}
    peer = await join(server, "den", token=token(**grants), **hello)
    await peer.say(message)
    assert (await peer.closed())[0] == CloseCode.NOT_GRANTED


async def test_a_recording_without_the_grant(server: RunningServer) -> None:
    peer = await join(server, "den", token=token())
    assert peer.welcome.may == ["speak", "listen"]
    await peer.say(Record(on=True))
    await until(lambda: peer.of(Recording))
    assert not peer.of(Recording)[0].on
    assert "token" in peer.of(Recording)[0].reason
    await peer.leave()
    peer = await join(server, "den", token=token(record=True))
    await peer.say(Record(on=True))
    await until(lambda: peer.of(Recording))
    assert peer.of(Recording)[0].on
    await peer.leave()


def paths(server: RunningServer) -> list[tuple[str, str]]:
    """Returns every method and path that the server documents."""
    described = ask(server.url + "/openapi.json")[1]["paths"]
    return [(method.upper(), path) for path, methods in described.items() for method in methods]


def test_no_path_is_open_without_a_token(server: RunningServer) -> None:
    """Those to come, too: they are found in the OpenAPI document."""
    tried = [(method, path) for method, path in paths(server) if path not in PUBLIC]
    known = {"/stats", "/metrics", "/v1/rooms", "/v1/rooms/{room}", "/v1/model", "/v1/weights/{digest}", "/v1/drain"}
    assert {path for _, path in tried} >= known | {"/v1/rooms/{room}/moderate"}
    body = {"action": "lock"}
    for method, path in tried:
        url = server.url + path.replace("{room}", "den").replace("{digest}", server.model.digest)
        sent = body if method == "POST" else None
        for bearer, code in ((None, 4015), (FORGED, 4015), (EXPIRED, 4016)):
            status, answer = ask(url, bearer, method, sent)
            assert (status, answer["detail"]["code"]) == (401, code), (method, path)
        if method == "GET":
            assert ask(url, None, "HEAD") == (401, None), path


OPERATORS_ONLY = ["/stats", "/metrics"]


@pytest.mark.parametrize("path", OPERATORS_ONLY)
def test_what_is_for_operators(server: RunningServer, path: str) -> None:
    status, answer = ask(server.url + path, token(moderate=True))
    assert (status, answer["detail"]["code"]) == (403, CloseCode.NOT_GRANTED)
    assert ask(server.url + path, token(operate=True), "HEAD")[0] == 200
    assert server.health_url is not None
    assert ask(server.health_url + path, None, "HEAD")[0] == 200, "that port is not for strangers"
    assert ask(server.health_url + "/v1/rooms")[0] == 401


async def test_rooms_are_listed_by_token(server: RunningServer) -> None:
    ada, ben = await join(server, "den", token=token(name="Ada")), await join(server, "team-1", token=token(room="*"))

    def names(**grants: Any) -> list[str]:
        return [room["name"] for room in ask(server.url + "/v1/rooms", token(**grants))[1]["rooms"]]

    assert names() == ["den"]
    assert names(room="team-*") == ["team-1"]
    assert names(room="nowhere") == []
    assert names(room="nowhere", operate=True) == ["den", "team-1"]
    shown = ask(server.url + "/v1/rooms/den", token())[1]
    assert shown == {"name": "den", "peers": 1, "locked": False, "recording": False}
    (who,) = ask(server.url + "/v1/rooms/den", token(moderate=True))[1]["who"]
    assert who == {"id": ada.id, "name": "Ada", "send": "codes", "muted": False}
    assert ask(server.url + "/v1/rooms/den", token(room="team-*"))[1]["detail"]["code"] == CloseCode.ANOTHER_ROOM
    assert ask(server.url + "/v1/rooms/nobody", token(room="*"))[0] == 404
    assert ask(server.url + "/v1/rooms/no%20room", token(room="*"))[0] == 422
    for peer in (ada, ben):
        await peer.leave()


async def removed_over_http(server: RunningServer, _: TestPeer, peer: int) -> None:
    url, bearer = server.url + "/v1/rooms/den/moderate", token(moderate=True)
    assert ask(url, token(), "POST", {"action": "remove", "peer": peer})[1]["detail"]["code"] == CloseCode.NOT_GRANTED
    assert ask(url, bearer, "POST", {"action": "remove", "peer": 60_000}) == (200, {"done": True})
    assert ask(url, bearer, "POST", {"action": "remove", "peer": peer}) == (200, {"done": True})


async def removed_by_a_peer(_: RunningServer, moderator: TestPeer, peer: int) -> None:
    await moderator.say(Moderate(action="remove", peer=peer))


@pytest.mark.parametrize("remove", [removed_by_a_peer, removed_over_http])
async def test_a_token_is_of_no_use_after_removal(server: RunningServer, remove: Any) -> None:
    mallory = token(room="*", name="Mallory")
    moderator, peer = await join(server, "den", token=token(moderate=True)), await join(server, "den", token=mallory)
    await remove(server, moderator, peer.id)
    code, why = await peer.closed()
    assert code == CloseCode.REMOVED
    await until(lambda: moderator.of(PeerLeft))
    assert moderator.of(PeerLeft)[0].reason == why
    assert (await refused(server, token=mallory)).code == CloseCode.REMOVED
    await (await join(server, "another", token=mallory)).leave()
    await (await join(server, "den", token=token(name="Mallory"))).leave()
    await moderator.leave()


async def test_who_was_muted_by_a_moderator_stays_muted(server: RunningServer) -> None:
    moderator, peer = await join(server, "den", token=token(moderate=True)), await join(server, "den", token=token())

    async def muted_becomes(muted: bool) -> None:
        await until(lambda: moderator.of(PeerChanged) and moderator.of(PeerChanged)[-1].peer.muted is muted)

    await moderator.say(Moderate(action="mute", peer=peer.id))
    await until(lambda: peer.of(Moderated))
    assert peer.of(Moderated)[0] == Moderated(action="mute", by=moderator.id, peer=peer.id)
    await muted_becomes(True)
    changes = len(moderator.of(PeerChanged))
    await peer.say(Mute(muted=False))
    await until(lambda: len(moderator.of(PeerChanged)) > changes)
    await muted_becomes(True)
    await moderator.say(Moderate(action="unmute", peer=peer.id))
    await until(lambda: len(peer.of(Moderated)) == 2)
    assert server.hub.rooms["den"].room.peers[peer.id].muted, "nobody opens the microphone of another"
    await peer.say(Mute(muted=False))
    await muted_becomes(False)
    for each in (moderator, peer):
        await each.leave()


async def test_a_locked_room_takes_moderators_only(server: RunningServer) -> None:
    moderator, peer = await join(server, "den", token=token(moderate=True)), await join(server, "den", token=token())
    await moderator.say(Moderate(action="lock"))
    await until(lambda: peer.of(Moderated))
    assert (await refused(server, token=token())).code == CloseCode.ROOM_LOCKED
    other = await join(server, "den", token=token(moderate=True))
    assert other.welcome.locked
    await moderator.say(Moderate(action="unlock"))
    await until(lambda: len(peer.of(Moderated)) == 2)
    await (await join(server, "den", token=token())).leave()
    for each in (moderator, peer, other):
        await each.leave()


async def test_tokens_are_in_no_log(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    mine = token(name="Ada", expires_s=expiry(60))
    peer = await join(server, "den", token=mine)
    await refused(server, token=FORGED)
    ask(server.url + "/v1/rooms", mine)
    await peer.leave()
    await until(lambda: "left" in caplog.text)
    assert "joined" in caplog.text
    assert f'token="{TOKENS.read(mine).id}"' in caplog.text, "its id tells which it was"
    for secret in (mine, FORGED, SECRET):
        assert secret not in caplog.text
        assert secret.rpartition(".")[2] not in caplog.text


def test_an_open_server_names_no_rooms(tmp_path: Path) -> None:
    with running_server(tiny_model(), open=True) as server:
        assert ask(server.url + "/stats")[0] == 200
        assert ask(server.url + "/v1/rooms")[0] == 401
        assert ask(server.url + "/v1/rooms", token(room="*", operate=True))[0] == 401
