"""Whether a server is alive and takes calls, and its figures."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from earshot.server.routes.bearer import Operating, Served

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the server works")
async def healthz(hub: Served) -> JSONResponse:
    """Returns 200, or 503 with the reason, while a thread has ended or is stuck."""
    if faults := hub.watchdog.faults():
        return JSONResponse({"status": "; ".join(faults)}, 503)
    alarm = hub.recorder.alarm()
    return JSONResponse({"status": "ok"} | ({"alarm": alarm} if alarm else {}))


@router.get("/readyz", summary="Whether the server takes calls")
async def readyz(hub: Served) -> JSONResponse:
    """Returns 200, or 503 with the reasons: a fault as in `/healthz`, an end that is near, or
    overload, which passes."""
    if reasons := hub.not_ready():
        return JSONResponse({"status": "; ".join(reasons)}, 503)
    return JSONResponse({"status": "ready"})


@router.get("/stats", summary="What the server does, as JSON")
async def stats(request: Request, hub: Served, _: Operating) -> Response:
    """Returns figures that are at most 0.25 s old."""

    def more() -> dict[str, Any]:
        return {"door": request.app.state.door.stats(), "tasks": len(asyncio.all_tasks())}

    return Response(hub.rendered_stats(more), media_type="application/json")
