"""Who asks over HTTP: the grants of `Authorization: Bearer TOKEN`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.server.core import refusals
from earshot.server.core.grants import Grants
from earshot.server.hub import Hub

UNKNOWN_BEARER = (CloseCode.NOT_INVITED, CloseCode.TOKEN_EXPIRED)
_scheme = HTTPBearer(auto_error=False, description="A token, as `earshot token` makes them.")
Given = Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]


class _Reason(BaseModel):
    code: int | None = None
    """The close code that a WebSocket would get."""
    message: str


class Refusal(BaseModel):
    """Why a request is refused."""

    detail: _Reason


Responses = dict[int | str, dict[str, Any]]
"""What the OpenAPI document says of answers, by status."""
TOO_OFTEN: Responses = {429: {"description": "Asked too often", "content": {"text/plain": {}}}}
REFUSALS: Responses = {
    401: {"model": Refusal, "description": "No token, or one that does not count (4015, 4016)"},
    403: {"model": Refusal, "description": "The token is not for this (4017 to 4019)"},
}
MISSING: Responses = {404: {"model": Refusal, "description": "There is no such thing here"}}


def hub_of(request: Request) -> Hub:
    """Returns what the server of this request is about."""
    hub: Hub = request.app.state.hub
    return hub


Served = Annotated[Hub, Depends(hub_of)]


def refused(error: ProtocolError) -> HTTPException:
    """Returns the HTTP answer to what would close a WebSocket: with the same code and sentence."""
    unknown = error.code in UNKNOWN_BEARER
    return HTTPException(
        401 if unknown else 403,
        {"code": int(error.code), "message": str(error)},
        {"WWW-Authenticate": "Bearer"} if unknown else None,
    )


def _entering(hub: Served, given: Given) -> Grants:
    try:
        return hub.access.grants(given.credentials if given else None)
    except ProtocolError as error:
        hub.count_closed(error.code)
        raise refused(error) from error


def invited(hub: Served, given: Given) -> Grants:
    """Lets in whoever has a token, on open servers too: names of rooms are their only keys
    there."""
    if given is None or not hub.access.has_key:
        hub.count_closed(CloseCode.NOT_INVITED)
        raise refused(refusals.no_token())
    return _entering(hub, given)


def is_at_health_port(request: Request) -> bool:
    """Returns whether a request came to the port that is not for strangers."""
    local = request.scope.get("server")
    return local is not None and local[1] in request.app.state.health_ports


def _operating(request: Request, hub: Served, given: Given) -> Grants | None:
    """Lets in operators; on the port for health and figures, and on a server without tokens,
    everyone."""
    if not hub.access.has_key or is_at_health_port(request):
        return None
    return operator(hub, _entering(hub, given))


def operator(hub: Hub, grants: Grants) -> Grants:
    """Returns the grants. Raises HTTPException if they do not allow to operate."""
    if not grants.operate:
        hub.count_closed(CloseCode.NOT_GRANTED)
        raise refused(refusals.not_granted("operate this server"))
    return grants


Entering = Annotated[Grants, Depends(_entering)]
"""Whoever may enter some room of this server."""
Invited = Annotated[Grants, Depends(invited)]
"""Whoever has a token."""
Operating = Annotated[Grants | None, Depends(_operating)]
"""Whoever may see the figures."""
