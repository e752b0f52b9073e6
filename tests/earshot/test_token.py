"""`earshot token` and `earshot moderate`, and the call that a link leads to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from earshot.cli import app
from earshot.client.audio.endpoints import NoSink, NoSource
from earshot.client.net.link import name_in, parse_link
from earshot.client.net.moderation import act, who_is_in
from earshot.client.settings import CallSettings
from earshot.client.wiring import make_call
from earshot.codec.errors import CallError, UsageError
from earshot.commands.token import _told
from earshot.protocol.close_codes import CloseCode
from earshot.server.access.keys import Key, default_key_file, read_key
from earshot.server.access.tokens import Tokens
from earshot.server.core.grants import Grants
from earshot.server.net.tls import server_tls
from tests.peers import RunningServer, running_server, tiny_model, until

SECRET = Key("HS256", b"k" * 32)


@pytest.fixture
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def made(*arguments: str) -> list[str]:
    done = CliRunner().invoke(app, ["token", *arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output.split()


@pytest.mark.usefixtures("_own_folder")
def test_the_first_token_makes_the_key_that_a_server_takes() -> None:
    token, link = made("kitchen", "--name", "Ada", "--for", "30m", "--moderate", "--server", "wss://calls.example.org")
    assert link == f"https://calls.example.org/?room=kitchen#{token}"
    grants = Tokens(read_key(default_key_file())).read(token)
    assert (grants.room, grants.name, grants.may) == ("kitchen", "Ada", ["speak", "listen", "record", "moderate"])
    assert grants.expires_s is not None
    (alone,) = made("team-*", "--for", "ever", "--no-speak")
    grants = Tokens(read_key(default_key_file())).read(alone)
    assert (grants.may, grants.expires_s, grants.operate) == (["listen"], None, False)


@pytest.mark.usefixtures("_own_folder")
def test_a_certificate_of_ones_own_is_named_beside_the_link() -> None:
    """Who has the link only, in a terminal, could not call."""
    assert len(list(_told("den", 60.0, "wss://calls.example.org"))) == 1, "there is none"
    tls = server_tls("self-signed", None)
    assert tls is not None
    *_, last = _told("den", 60.0, "wss://192.168.1.20:8765")
    assert last == f"--tls-fingerprint {tls.fingerprint}"
    assert len(list(_told("den", 60.0, "ws://192.168.1.20:8765"))) == 1, "nothing is encrypted there"


@pytest.mark.usefixtures("_own_folder")
@pytest.mark.parametrize(
    "arguments", [["a room"], ["den", "--for", "soon"], ["den", "--for", "0h"], ["d", "--name", "\x1b"]]
)
def test_what_is_no_token(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["token", *arguments])
    assert done.exit_code != 0
    assert not default_key_file().exists()


@pytest.fixture
def invited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with running_server(tiny_model(), tokens=True) as server:
        yield server


async def test_two_commands_and_only_those_invited_come_in(invited: RunningServer) -> None:
    """As an operator would: `serve --tokens`, then `token`; with its link and without."""
    token, address = made("kitchen", "--name", "Ada", "--server", invited.url)
    link = parse_link(address)
    assert link is not None
    settings = CallSettings(link.room, link.server, "Mallory", token=link.token)
    assert token not in repr(settings)
    call = make_call(settings, invited.model, NoSource(), NoSink())
    running = asyncio.create_task(call.run())
    await until(lambda: call.state == "connected")
    (peer,) = invited.hub.rooms["kitchen"].room.peers.values()
    assert peer.name == "Ada"

    stranger = make_call(CallSettings("kitchen", invited.url), invited.model, NoSource(), NoSink())
    with pytest.raises(CallError) as refusal:
        await stranger.run()
    assert refusal.value.code == CloseCode.NOT_INVITED

    (moderator, _) = made("kitchen", "--moderate")
    (seen,) = await asyncio.to_thread(who_is_in, invited.url, "kitchen", moderator)
    assert (seen.name, seen.send) == ("Ada", "none")
    for action, said in (("lock", "locked"), ("unlock", ""), ("mute", "muted you")):
        await asyncio.to_thread(act, invited.url, "kitchen", moderator, action, "Ada")
        await until(lambda said=said: said in call.room.moderation and bool(call.room.moderation) == bool(said))
    call.toggle_mute()
    assert call.muted
    for wrong, error in (((token, "lock", ""), CallError), ((moderator, "mute", "Eve"), UsageError)):
        with pytest.raises(error):
            await asyncio.to_thread(act, invited.url, "kitchen", *wrong)
    await asyncio.to_thread(act, invited.url, "kitchen", moderator, "remove", str(seen.id))
    with pytest.raises(CallError, match="removed"):
        await running


def test_a_server_that_is_no_server() -> None:
    with pytest.raises(CallError, match=r"cannot be asked: (?!\[Errno)"):
        who_is_in("ws://127.0.0.1:1", "den", None)


@pytest.mark.parametrize(
    ("token", "name"),
    [
        (Tokens(SECRET).make(Grants("den", "Zoë")), "Zoë"),
        (Tokens(SECRET).make(Grants("den")), ""),
        (None, ""),
        ("word", ""),
        ("a.!.c", ""),
        ("a.W10.c", ""),
        ("a.eyJuYW1lIjoiXHUwMDFiQSJ9.c", "A"),
    ],
    ids=["a name", "no name", "no token", "no parts", "no base64", "a list", "a control character"],
)
def test_the_name_that_a_token_gives_is_the_one_that_is_shown(token: str | None, name: str) -> None:
    assert name_in(token) == name


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["mute", "Ben"], "Ben is muted"),
        (["unmute", "Ben"], "Ben may speak again"),
        (["remove", "2"], "2 is removed"),
        (["lock"], "the room den is locked"),
        (["unlock"], "the room den is open again"),
    ],
    ids=str,
)
def test_a_moderator_is_told_what_was_done(asked: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earshot.client.net.moderation.act", lambda *_: None)
    done = CliRunner().invoke(app, ["moderate", "den", *asked, "--token", "t"])
    assert (done.exit_code, done.stdout.strip()) == (0, said)
