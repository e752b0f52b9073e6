"""The command `earshot moderate`; imports the rest when it runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from earshot.commands.options import TlsFingerprint


class ModerateAction(StrEnum):
    """What a moderator does."""

    who = "who"
    mute = "mute"
    unmute = "unmute"
    remove = "remove"
    lock = "lock"
    unlock = "unlock"


DONE = {
    ModerateAction.mute: "is muted",
    ModerateAction.unmute: "may speak again",
    ModerateAction.remove: "is removed",
    ModerateAction.lock: "is locked",
    ModerateAction.unlock: "is open again",
}


def moderate(
    room: Annotated[str, typer.Argument(help="A room, or a link with a token.")],
    action: Annotated[ModerateAction, typer.Argument(help="What to do; who lists those in the room.")],
    person: Annotated[str, typer.Argument(help="Whom to mute, unmute or remove: a name, or a number of `who`.")] = "",
    server: Annotated[str, typer.Option(envvar="EARSHOT_SERVER", help="ws://HOST:PORT, or wss://HOST.")] = (
        "ws://127.0.0.1:8765"
    ),
    token: Annotated[
        str | None, typer.Option(envvar="EARSHOT_TOKEN", help="A token with --moderate; that of the link if not given.")
    ] = None,
    tls_fingerprint: TlsFingerprint = None,
) -> None:
    """Mute or remove somebody, or lock a room, without being in it.

    Who is muted by a moderator cannot unmute until `unmute` allows it again. Who
    is removed does not come back with the same token. A locked room lets in
    nobody but moderators; it is open again when it was empty.

    \b
    earshot moderate kitchen who --token TOKEN
    earshot moderate kitchen mute Ada --token TOKEN
    earshot moderate LINK remove Ben
    earshot moderate LINK lock
    """
    from earshot.client.net.link import parse_link
    from earshot.client.net.moderation import act, who_is_in
    from earshot.client.net.tls import pinned
    from earshot.codec.terminal import Terminal

    link = parse_link(room)
    if link is not None:
        server, room, token = link.server, link.room, token or link.token
    tls = pinned(server, tls_fingerprint) if tls_fingerprint else None
    console = Terminal()
    if action is ModerateAction.who:
        for peer in who_is_in(server, room, token, tls):
            muted = ", muted" if peer.muted else ""
            console.say(f"{peer.id}  {peer.name}  sends {peer.send}{muted}")
        return
    act(server, room, token, action.value, person, tls)
    console.say(f"{person or f'the room {room}'} {DONE[action]}")
