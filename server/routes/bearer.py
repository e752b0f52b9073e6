"""Who asks over HTTP: the grants of `Authorization: Bearer TOKEN`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import JSONResponse
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


async def refuse(request: Request, error: ProtocolError) -> JSONResponse:
    """Answers, counts and notes what would close a WebSocket: with the same code and sentence. The
    application calls it for each ProtocolError of a route."""
    hub = hub_of(request)
    hub.count_closed(error.code)
    client = request.client.host if request.client else ""
    hub.audit.note("refused", address=client, path=request.url.path, code=int(error.code), reason=str(error))
    unknown = error.code in UNKNOWN_BEARER
    return JSONResponse(
        {"detail": {"code": int(error.code), "message": str(error)}},
        401 if unknown else 403,
        {"WWW-Authenticate": "Bearer"} if unknown else None,
    )


def _entering(hub: Served, given: Given) -> Grants:
    return hub.access.grants(given.credentials if given else None)


def invited(hub: Served, given: Given) -> Grants:
    """Lets in whoever has a token, on open servers too: names of rooms are their only keys
    there."""
    if given is None or not hub.access.has_key:
        raise refusals.no_token()
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
    return operator(_entering(hub, given))


def operator(grants: Grants) -> Grants:
    """Returns the grants. Raises ProtocolError if they do not allow to operate."""
    if not grants.operate:
        raise refusals.not_granted("operate this server")
    return grants


Entering = Annotated[Grants, Depends(_entering)]
"""Whoever may enter some room of this server."""
Invited = Annotated[Grants, Depends(invited)]
"""Whoever has a token."""
Operating = Annotated[Grants | None, Depends(_operating)]
"""Whoever may see the figures."""
