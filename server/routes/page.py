"""The page with which a browser joins a room (web/), at `/`."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from earshot import web

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
"""What the page consists of. Other files of the folder are nobody's business."""
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "worker-src 'self'",
        "media-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), speaker-selection=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # asked for each time, and sent only where it has changed
    "Vary": "Accept-Encoding",
}
"""Nothing of another site is loaded or may load the page. With the cross-origin headers a browser
gives the page clocks of 5 microseconds in place of 100."""

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class File:
    """A file of the page as it is sent."""

    plain: bytes
    gzipped: bytes
    media_type: str
    etag: str


@cache
def files() -> dict[str, File]:
    """Reads the page's files, by their paths from its folder."""
    found = {}
    for path in sorted(web.FOLDER.rglob("*")):
        if path.suffix in TYPES:
            data = path.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            name = path.relative_to(web.FOLDER).as_posix()
            found[name] = File(data, gzip.compress(data, 9, mtime=0), TYPES[Path(name).suffix], etag)
    return found


@router.get("/")
async def index(request: Request) -> Response:
    """Returns the page."""
    return _answer(request, "index.html")


@router.get("/page/{name:path}")
async def file(request: Request, name: str) -> Response:
    """Returns a file that the page loads."""
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    found = files().get(name)
    if found is None:
        raise HTTPException(404, {"message": "the page has no such file"})
    headers = HEADERS | {"ETag": found.etag}
    if request.headers.get("if-none-match") == found.etag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.gzipped, headers=headers | {"Content-Encoding": "gzip"}, media_type=found.media_type)
    return Response(found.plain, headers=headers, media_type=found.media_type)
