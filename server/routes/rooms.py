"""The rooms of a server, for those who have a token: which there are, who is in them, and what
moderators do."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel, ConfigDict

from earshot.protocol.messages import ROOM_PATTERN, Moderate, Moderation, PeerId
from earshot.server.core import refusals
from earshot.server.core.grants import Grants
from earshot.server.core.guests import Speaker
from earshot.server.hub import Hub
from earshot.server.live_room import LiveRoom
from earshot.server.routes.bearer import MISSING, REFUSALS, Invited, Responses, Served

router = APIRouter(prefix="/v1/rooms", tags=["rooms"], responses=REFUSALS)
NO_TEXT: Responses = {400: {"description": "The body is no text"}}
RoomName = Annotated[str, Path(pattern=f"^{ROOM_PATTERN}$")]


class Action(BaseModel):
    """What a moderator does."""

    model_config = ConfigDict(extra="forbid")

    action: Moderation
    peer: PeerId | None = None
    """Who is muted, unmuted or removed."""


def _described(live: LiveRoom, grants: Grants) -> dict[str, Any]:
    room = live.room
    everyone: list[Speaker] = [*room.peers.values(), *room.guests.values()]
    shown = {"name": room.name, "peers": len(everyone), "locked": room.locked, "recording": live.recorded}
    if not grants.moderate:
        return shown
    who = [{"id": peer.id, "name": peer.name, "send": peer.send, "muted": peer.muted} for peer in everyone]
    return shown | {"who": who}


def _sees(grants: Grants, room: str) -> bool:
    return grants.operate or grants.allows_room(room)


@router.get("", summary="Rooms that somebody is in, of those that the token is for")
async def rooms(hub: Served, grants: Invited) -> dict[str, Any]:
    """Returns the rooms; moderators see who is in them."""
    return {"rooms": [_described(live, grants) for name, live in hub.rooms.items() if _sees(grants, name)]}


@router.get("/{room}", summary="One room", responses=MISSING)
async def room(room: RoomName, hub: Served, grants: Invited) -> dict[str, Any]:
    """Returns what `/v1/rooms` says of it."""
    return _described(_find(hub, grants, room), grants)


@router.post("/{room}/moderate", summary="Mute or remove somebody, or lock the room", responses=MISSING | NO_TEXT)
async def moderate(room: RoomName, action: Action, hub: Served, grants: Invited) -> dict[str, bool]:
    """Does what the message `moderate` of the protocol does, for a moderator who need not be in the
    room."""
    live = _find(hub, grants, room)
    hub.moderate(live, Moderate(action=action.action, peer=action.peer), grants)
    return {"done": True}


def _find(hub: Hub, grants: Grants, room: str) -> LiveRoom:
    if not _sees(grants, room):
        raise refusals.another_room(room)
    live = hub.rooms.get(room)
    if live is None:
        raise HTTPException(404, {"message": f"nobody is in the room {room}"})
    return live
