"""Whether a server is alive, and whether it takes calls."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from earshot.server.routes.bearer import Responses, Served

router = APIRouter(tags=["health"])
NOT_NOW: Responses = {503: {"description": "It does not; `status` says why"}}


@router.get("/healthz", summary="Whether the server works", responses=NOT_NOW)
async def healthz(hub: Served) -> JSONResponse:
    """Returns 200, or 503 with the reason, while a thread has ended or is stuck."""
    if faults := hub.watchdog.faults():
        return JSONResponse({"status": "; ".join(faults)}, 503)
    alarm = hub.recorder.alarm()
    return JSONResponse({"status": "ok"} | ({"alarm": alarm} if alarm else {}))


@router.get("/readyz", summary="Whether the server takes calls", responses=NOT_NOW)
async def readyz(hub: Served) -> JSONResponse:
    """Returns 200, or 503 with the reasons: a fault as in `/healthz`, an end that is near, or
    overload, which passes."""
    if reasons := hub.not_ready():
        return JSONResponse({"status": "; ".join(reasons)}, 503)
    return JSONResponse({"status": "ready"})
