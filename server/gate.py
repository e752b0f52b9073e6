"""Refuses requests before the application sees them: those of foreign web pages, and those that
come too often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from earshot.server.clock import clock_us
from earshot.server.core.rate_limit import AddressBuckets
from earshot.server.origins import is_own_host, is_own_origin
from earshot.server.settings import Settings

BURST_S = 2.0
"""Seconds of requests that may come at once."""

FOR_ALL = ("/healthz", "/readyz")
"""Paths at which requests are answered whatever their headers say: probes have any `Host`."""
FIGURES = ("/stats", "/metrics")
FOR_PAGES: dict[str, Any] = {
    "allow_methods": ("GET", "HEAD", "POST"),
    "allow_headers": ("Authorization", "Content-Type", "If-Range", "Range"),
    "expose_headers": ("Content-Range", "ETag", "Repr-Digest"),
}
"""What the pages of allowed origins may do below `/v1/`; they get nothing else to read."""


class Gate:
    """An ASGI application around another. It refuses with HTTP 403 or 429."""

    def __init__(self, app: ASGIApp, settings: Settings, refused: Callable[[str, str], None]) -> None:
        """`refused` is told of each refusal, by address and reason."""
        self._app, self._refused = app, refused
        self._origins = _names(settings.allowed_origins)
        self._hosts = _names(settings.allowed_hosts)
        self._rooms = CORSMiddleware(app, sorted(self._origins), **FOR_PAGES) if self._origins else app
        self._requests = _buckets(settings.http_requests_per_second)
        self._stats = _buckets(settings.stats_requests_per_second)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope.get("method") == "HEAD":
            await self({**scope, "method": "GET"}, receive, _without_body(send))
        elif scope["type"] == "http" and not self._requests.take(_address(scope), 1, clock_us()):
            self._refused(_address(scope), "too_many_requests")
            await _answer(scope, send, 429, b"too many requests")
        elif scope["type"] == "lifespan" or scope.get("path") in FOR_ALL:
            await self._app(scope, receive, send)
        elif not self._is_own(scope):
            self._refused(_address(scope), "foreign_page")
            await _answer(scope, send, 403, b"a web page of another site may not use this server")
        elif scope.get("path") in FIGURES and not self._stats.take(_address(scope), 1, clock_us()):
            self._refused(_address(scope), "too_many_stats_requests")
            await _answer(scope, send, 429, b"too many requests for figures")
        elif scope["type"] == "http" and scope["path"].startswith("/v1/"):
            await self._rooms(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_own(self, scope: Scope) -> bool:
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        host = next((value for name, value in headers if name == "host"), None)
        if not is_own_origin([value for name, value in headers if name == "origin"], host, self._origins):
            return False
        # A proxy on this machine passes its public name on as Host. A page cannot add this header
        # to a WebSocket; to a request for /stats it could.
        if scope["type"] == "websocket" and any(name == "x-forwarded-for" for name, _ in headers):
            return True
        local = scope.get("server") or ("", None)
        return is_own_host(host, str(local[0]), self._hosts)


def _without_body(send: Send) -> Send:
    """Returns a `send` for the answer to a HEAD request: the head of the answer to GET."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head


def _buckets(rate: float) -> AddressBuckets:
    return AddressBuckets(rate, max(1.0, BURST_S * rate))


def _names(setting: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in setting.split(",") if name.strip())


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


async def _answer(scope: Scope, send: Send, status: int, why: bytes) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})  # before the handshake, this is HTTP 403
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(why)), (b"connection", b"close")]
    start: Message = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": why})
