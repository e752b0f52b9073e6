"""The web application of a listening test: the page, and the few requests that it makes."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from earshot.codec.errors import EarshotError
from earshot.lab.listening.clips import Clip
from earshot.lab.listening.record import ScoreFile, Table
from earshot.lab.listening.session import Answer, Fault, Join, Rater, Refused, Session, parse

PAGE = Path(__file__).with_name("page")
MAX_BODY = 4096
BODY_TIMEOUT_S = 10.0
KEY_BYTES = 16
STATUS = {
    Fault.MALFORMED: 400,
    Fault.UNKNOWN_RATER: 401,
    Fault.FULL: 403,
    Fault.UNKNOWN_SOUND: 404,
    Fault.NAME_TAKEN: 409,
    Fault.NOT_THIS_TRIAL: 409,
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
log = logging.getLogger("uvicorn.error")
NOT_READ = "A sound could not be read on the server. Please tell whoever runs this test, and try again."
NOT_SAVED = "Your ratings could not be saved on the server. Please tell whoever runs this test, and try again."


def create_app(session: Session, clips: Mapping[str, Clip], scores: ScoreFile, raters: Table) -> FastAPI:
    """Makes the application. `clips` are those of the session's plan.

    Requests show the rater's key as a bearer token, never as a cookie, so that no other page can
    make them."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    saving = asyncio.Lock()

    def rater_of(request: Request) -> Rater:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return session.rater(key if scheme.lower() == "bearer" else "")

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"error": str(error), "fault": error.fault.name.lower()}, STATUS[error.fault])

    @app.exception_handler(_TooLarge)
    async def too_large(request: Request, error: _TooLarge) -> JSONResponse:
        return _close(JSONResponse({"error": f"A request has at most {MAX_BODY} bytes.", "fault": "too_large"}, 413))

    @app.exception_handler(TimeoutError)
    async def too_slow(request: Request, error: TimeoutError) -> JSONResponse:
        return _close(JSONResponse({"error": "The request took too long.", "fault": "too_slow"}, 408))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

    @app.exception_handler(EarshotError)
    async def unreadable(request: Request, error: EarshotError) -> JSONResponse:
        log.error("%s", error)  # its words name files, and so systems
        return JSONResponse({"error": NOT_READ, "fault": "not_read"}, 503)

    @app.post("/api/raters", status_code=201)
    async def join(request: Request) -> dict[str, Any]:
        wanted = parse(Join, await _body(request))
        key = secrets.token_urlsafe(KEY_BYTES)
        rater = session.join(wanted.name, key, f"anonymous-{secrets.token_hex(3)}")
        return {"key": key, "name": rater.name}

    @app.get("/api/trial")
    async def trial(request: Request) -> dict[str, Any]:
        rater = rater_of(request)
        now = session.trial(rater, _now_us())
        return {
            "name": rater.name,
            "total": len(session.plan.clips),
            "trial": now
            and {
                "number": now.number,
                "token": now.token,
                "reference": now.reference,
                "conditions": now.conditions,
            },
        }

    @app.get("/api/sounds/{token}")
    async def sound(request: Request, token: str) -> Response:
        clip, condition = session.sound(rater_of(request), token)
        return Response(await run_in_threadpool(clips[clip].wav, condition), media_type="audio/wav")

    @app.post("/api/scores", status_code=201)
    async def rate(request: Request) -> JSONResponse:
        rater = rater_of(request)
        answer = parse(Answer, await _body(request))
        async with saving:
            ratings = session.ratings(rater, answer, _now_us(), datetime.now(UTC).isoformat(timespec="seconds"))
            new = not rater.saved
            session.keep(rater)
            try:
                if new:
                    await run_in_threadpool(raters.append, [(rater.name, rater.key.hex())])
                await run_in_threadpool(scores.append, ratings)
            except OSError:
                rater.saved = not new  # the next try writes the key, without which a restart would not know this rater
                return JSONResponse({"error": NOT_SAVED, "fault": "not_saved"}, 503)
            session.rated(rater, ratings[0].trial)
        return JSONResponse({"rated": len(rater.rated), "total": len(session.plan.clips)}, 201)

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


class _TooLarge(Exception):  # noqa: N818 -- becomes a response
    pass


async def _body(request: Request) -> bytes:
    """Reads a request's body, which is bounded in size and time."""
    body = b""
    async with asyncio.timeout(BODY_TIMEOUT_S):
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY:
                raise _TooLarge
    return body


def _close(response: JSONResponse) -> JSONResponse:
    """Makes the connection close, so that the rest of the request is not read."""
    response.headers["Connection"] = "close"
    return response


def _now_us() -> int:
    return time.monotonic_ns() // 1000
