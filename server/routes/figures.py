"""The figures of a server: as JSON, and for Prometheus."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

from earshot.server.metrics import Metrics
from earshot.server.routes.bearer import REFUSALS, TOO_OFTEN, Operating, Responses, Served

router = APIRouter(tags=["figures"], responses=REFUSALS | TOO_OFTEN)

TEXT: Responses = {200: {"content": {"text/plain": {}}, "description": "Prometheus' text format"}}


@router.get("/stats", summary="What the server does, as JSON")
async def stats(request: Request, _: Operating) -> Response:
    """Returns figures that are at most 0.25 s old."""

    def more() -> dict[str, Any]:
        return {"door": request.app.state.door.stats(), "tasks": len(asyncio.all_tasks())}

    return Response(request.app.state.figures.rendered(more), media_type="application/json")


@router.get("/metrics", summary="What the server does, for Prometheus", response_class=Response, responses=TEXT)
async def metrics(request: Request, hub: Served, _: Operating) -> Response:
    """Returns counts, gauges and histograms (docs/monitoring.md) in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Metrics(hub, request.app.state.door, request.app.state.weights))
    ProcessCollector(registry=registry)
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
