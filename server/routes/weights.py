"""The model of a server and its weights, for clients that lack them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, Field

from earshot.protocol.messages import ModelInfo
from earshot.server.clock import clock_us
from earshot.server.core.byte_ranges import RangeError, byte_range
from earshot.server.core.pace import Pace
from earshot.server.net.asgi_extensions import PROGRESS
from earshot.server.routes.bearer import MISSING, REFUSALS, Entering, Responses, Served

router = APIRouter(prefix="/v1", tags=["model"], responses=REFUSALS)
BLOCK = 1 << 16
SAVED_US = 500_000
"""So long a time in which nobody fetched weights is made up for: at 25 MB/s, the default model's
file goes out as fast as the line takes it."""
FOR_EVER = "private, max-age=31536000, immutable"
"""For a name that is the hash of what it names."""


class Weights:
    """The file of weights that a server gives away. All who fetch it share one rate."""

    def __init__(self, data: bytes, mb_per_second: float) -> None:
        self._data = memoryview(data)
        digest = hashlib.sha256(data)
        self.sha256, self.size = digest.hexdigest(), len(data)
        self.etag = f'"{self.sha256}"'
        self.headers = {
            "Accept-Ranges": "bytes",
            "ETag": self.etag,
            "Repr-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
        }
        self._pace = Pace(1e6 * mb_per_second, SAVED_US)
        self.given_bytes = 0
        """How many bytes went out so far."""

    async def blocks(self, begin: int, end: int, taken: Callable[[], None]) -> AsyncIterator[bytes]:
        """Yields the bytes from `begin` to `end`; calls `taken` after each block that was taken."""
        for at in range(begin, end, BLOCK):
            block = self._data[at : min(at + BLOCK, end)]
            # Zero lets the event loop do what it has to, between two blocks at least.
            await asyncio.sleep(max(0, self._pace.begin_us(len(block), clock_us()) - clock_us()) / 1e6)
            yield bytes(block)
            self.given_bytes += len(block)
            taken()


def _weights_of(request: Request) -> Weights:
    weights: Weights = request.app.state.weights
    return weights


TheWeights = Annotated[Weights, Depends(_weights_of)]


class WeightsInfo(BaseModel):
    """Where the weights are, and what they are."""

    url: str
    """Path on this server."""
    format: Literal["safetensors"] = "safetensors"
    bytes: int
    sha256: str


class ModelAnswer(ModelInfo):
    """What `welcome` says of the room's model, and where its weights are."""

    frame_rate: float = Field(description="Frames a second.")
    weights: WeightsInfo


@router.get("/model", summary="The codec of this server")
async def model(hub: Served, weights: TheWeights, _: Entering) -> ModelAnswer:
    """Returns name, digest, rates and frame size, and where its weights are."""
    info = ModelInfo.of(hub.config, hub.digest).model_dump()
    where = WeightsInfo(url=f"/v1/weights/{weights.sha256}", bytes=weights.size, sha256=weights.sha256)
    return ModelAnswer(**info, frame_rate=hub.config.frame_rate, weights=where)


PARTS: Responses = MISSING | {
    200: {"content": {"application/octet-stream": {}}, "description": "The whole file"},
    206: {"content": {"application/octet-stream": {}}, "description": "The bytes that `Range` asks for"},
    304: {"description": "The client has it (`If-None-Match`)"},
    416: {"description": "The file has none of these bytes"},
}


@router.get("/weights/{digest}", summary="A file of weights", response_class=Response, responses=PARTS)
async def file(
    digest: Annotated[str, Path(pattern="^[A-Za-z0-9_-]{1,64}$", description="`weights.sha256` of `/v1/model`.")],
    request: Request,
    hub: Served,
    weights: TheWeights,
    _: Entering,
) -> Response:
    """Returns the file by its sha256, or by the digest of the model that `welcome` has. Two files
    may have the same digest of a model (it covers no decoder), so only the first may be kept for
    ever."""
    if digest not in (weights.sha256, hub.digest):
        raise HTTPException(404, {"message": "this server has other weights: ask /v1/model"})
    headers = weights.headers | {"Cache-Control": FOR_EVER if digest == weights.sha256 else "private, no-cache"}
    asked = request.headers
    if weights.etag in asked.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    status, begin, end = 200, 0, weights.size
    try:
        part = byte_range(asked.get("range", ""), weights.size)
    except RangeError:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{weights.size}"})
    if part is not None and asked.get("if-range", weights.etag) == weights.etag:
        status, (begin, end) = 206, part
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{weights.size}"
    headers["Content-Length"] = str(end - begin)
    taken = request.scope.get("extensions", {}).get(PROGRESS, lambda: None)
    return StreamingResponse(weights.blocks(begin, end, taken), status, headers, "application/octet-stream")
