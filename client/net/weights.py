"""The weights of a server's model, for a client that lacks them: fetched from the server itself,
verified and kept."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import Annotated, Literal

import httpx
from pydantic import BaseModel, Field, ValidationError

from earshot.client.net.link import web_address
from earshot.codec.errors import CallError, UsageError
from earshot.codec.proxies import proxy_for
from earshot.codec.terminal import Terminal
from earshot.codec.weights.download import MOST_BYTES, Origin, Release, cache_folder, fetch
from earshot.protocol.close_codes import CloseCode
from earshot.protocol.text import MAX_SHOWN, clean

TIMEOUT_S = 5.0
KEPT = 8
"""Files of weights that are kept, those used last."""


class _File(BaseModel):
    bytes: Annotated[int, Field(ge=1, le=MOST_BYTES)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ServerModel(BaseModel):
    """The model of a server."""

    name: str
    digest: str
    weights: _File


class _Reason(BaseModel):
    code: Literal[CloseCode.NOT_INVITED, CloseCode.TOKEN_EXPIRED]
    message: str


class _Refusal(BaseModel):
    """The answer to who has no token that counts."""

    detail: _Reason


def server_model(server: str, token: str | None, tls: ssl.SSLContext | None = None) -> ServerModel | None:
    """Returns the model of a server; None where it does not say. Why not, the call will tell.
    Raises CallError, with the server's sentence, if the token lets nobody in."""
    url = f"{web_address(server)}/v1/model"
    try:
        transport = httpx.HTTPTransport(verify=tls or True, proxy=proxy_for(url, "socksio"))
        with httpx.Client(transport=transport, timeout=TIMEOUT_S) as client:
            answer = client.get(url, headers=_who(token))
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            why = _Refusal.model_validate_json(answer.content).detail
            raise CallError(clean(why.message, MAX_SHOWN), why.code)
        return ServerModel.model_validate_json(answer.content) if answer.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL, ValidationError, UsageError):
        return None


def fetched(
    server: str,
    model: ServerModel,
    token: str | None,
    tls: ssl.SSLContext | None = None,
    console: Terminal | None = None,
) -> Path:
    """Returns the file of a server's weights, fetched if it is not there. Raises DownloadError."""
    file = model.weights
    folder = cache_folder() / "servers"
    path = folder / f"{file.sha256}.safetensors"
    if path.is_file():  # it was verified when it came, and loading it checks it again
        os.utime(path)
        return path
    name = re.sub(r"[{}\[\]]", "", clean(model.name, 64))
    origin = Origin(
        f"This server speaks the model {name}, which you lack. Fetching its weights{{size}}.",
        advice="; ask whoever runs the server",
        headers=_who(token),
        tls=tls,
    )
    release = Release(file.sha256, file.bytes, file.sha256)
    fetch(release, path, f"{web_address(server)}/v1/weights", console=console, origin=origin)
    for old in sorted(folder.glob("*.safetensors"), key=lambda each: each.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def _who(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}
