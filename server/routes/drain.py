"""The end of a server, announced by whoever operates it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from earshot.server.origins import is_on_loopback
from earshot.server.routes.bearer import REFUSALS, Given, Served, invited, is_at_health_port, operator

router = APIRouter(prefix="/v1", tags=["operation"], responses=REFUSALS)


class Drained(BaseModel):
    """What is still to end."""

    rooms: int
    within_s: int


def _may_drain(request: Request, hub: Served, given: Given) -> None:
    """Lets in operators, and at the port for health and figures whoever is on this machine. At the
    other port an address of loopback is no reason to: a proxy here has one, whoever is behind
    it."""
    host = request.client.host if request.client else ""
    if not (is_at_health_port(request) and is_on_loopback(host)):
        operator(invited(hub, given))


@router.post("/drain", status_code=202, summary="Take no new rooms, and end when those that are there have")
async def drain(
    hub: Served,
    _: Annotated[None, Depends(_may_drain)],
    within_s: Annotated[int, Query(ge=0, le=86_400, description="Then what is left is ended, too.")] = 60,
) -> Drained:
    """Refuses new rooms (4010) from now on, tells everyone in a room, and ends the server once
    nobody is left, or after `within_s`."""
    hub.begin_drain(within_s)
    return Drained(rooms=len(hub.rooms), within_s=within_s)
