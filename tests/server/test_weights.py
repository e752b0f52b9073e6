"""The weights of a server's model, fetched as a page and as a terminal do."""

from __future__ import annotations

import base64
import hashlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from earshot import codec
from earshot.codec.weights.load import native_bytes, save_native
from earshot.server.core.grants import Grants
from tests.peers import PATIENCE_S, RunningServer, bystanders, running_server, tiny_model, until
from tests.server.access.test_paths import SECRET, TOKENS

PAGE = "https://calls.example.org"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(tiny_model(), allowed_origins=PAGE, weights_mb_per_second=1000.0) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url.replace("ws", "http", 1), timeout=PATIENCE_S) as client:
        yield client


def test_what_is_fetched_is_the_model(client: httpx.Client, server: RunningServer, tmp_path: Path) -> None:
    model = client.get("/v1/model").json()
    assert (model["name"], model["digest"], model["sample_rate"]) == ("tiny", server.model.digest, 24_000)
    assert (model["hop_length"], model["frame_rate"], model["bandwidths"]) == (320, 75.0, [1.5, 3.0, 6.0, 12.0])
    answer = client.get(model["weights"]["url"])
    assert len(answer.content) == model["weights"]["bytes"] == int(answer.headers["content-length"])
    assert hashlib.sha256(answer.content).hexdigest() == model["weights"]["sha256"]
    sha = base64.b64encode(hashlib.sha256(answer.content).digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{sha}:"
    assert "immutable" in answer.headers["cache-control"]
    path = tmp_path / "fetched.safetensors"
    path.write_bytes(answer.content)
    assert codec.load(str(path)).digest == server.model.digest


def test_a_file_of_weights_is_given_away_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save_native(tiny_model().network, path)
    assert native_bytes(codec.load(str(path))) == path.read_bytes()
    assert native_bytes(tiny_model()) == path.read_bytes()


def test_parts_of_the_weights(client: httpx.Client, server: RunningServer) -> None:
    url = client.get("/v1/model").json()["weights"]["url"]
    whole = client.get(url)
    etag, size = whole.headers["etag"], len(whole.content)
    head = client.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(size))
    rest = client.get(url, headers={"Range": f"bytes={size - 7}-"})
    assert (rest.status_code, rest.content) == (206, whole.content[-7:])
    assert rest.headers["content-range"] == f"bytes {size - 7}-{size - 1}/{size}"
    assert client.get(url, headers={"Range": "bytes=3-9", "If-Range": etag}).content == whole.content[3:10]
    assert client.get(url, headers={"Range": "bytes=3-9", "If-Range": '"another"'}).content == whole.content
    beyond = client.get(url, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    assert client.get(url, headers={"If-None-Match": etag}).status_code == 304
    by_model = client.get(f"/v1/weights/{server.model.digest}")
    assert by_model.content == whole.content
    assert by_model.headers["cache-control"] == "private, no-cache", "another decoder may have the same digest"
    for wrong, status in (("0" * 64, 404), ("a.b", 422), ("..%2f..%2fetc%2fpasswd", 404)):
        assert client.get(f"/v1/weights/{wrong}").status_code == status


def test_a_page_of_an_allowed_origin_may_read_them(client: httpx.Client) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    assert client.options("/v1/model", headers=asked).headers["access-control-allow-origin"] == PAGE
    assert client.get("/v1/model", headers={"Origin": PAGE}).headers["access-control-allow-origin"] == PAGE
    assert client.get("/v1/model", headers={"Origin": "https://evil.example"}).status_code == 403


def test_weights_ask_for_a_token_as_rooms_do() -> None:
    with (
        running_server(tiny_model(), token_key=SECRET) as server,
        httpx.Client(base_url=server.url.replace("ws", "http", 1), timeout=PATIENCE_S) as client,
    ):
        assert client.get("/v1/model").json()["detail"]["code"] == 4015
        assert client.head(f"/v1/weights/{server.model.digest}").status_code == 401
        client.headers["Authorization"] = f"Bearer {TOKENS.make(Grants('den'))}"
        url = client.get("/v1/model").json()["weights"]["url"]
        assert client.get(url).status_code == 200


async def test_who_takes_weights_slowly_has_time_and_who_takes_none_has_not() -> None:
    """The deadline of an answer is for each part of this one. Meanwhile people talk."""
    with running_server(tiny_model(), hello_timeout_s=1.0, weights_mb_per_second=2.0) as server:
        size = server.get("/v1/model")["weights"]["bytes"]
        assert size / 2.0e6 - 0.5 > 3.0, "it takes longer than an answer may"
        async with bystanders(server, "den"), httpx.AsyncClient(timeout=PATIENCE_S) as client:
            began = time.monotonic()
            url = f"{server.url.replace('ws', 'http', 1)}/v1/weights/{server.model.digest}"
            assert len((await client.get(url)).content) == size
            assert time.monotonic() - began > 2.5
    fast = running_server(tiny_model(), hello_timeout_s=0.5, weights_mb_per_second=1000.0)
    with fast as server, socket.socket() as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        idle.connect(("127.0.0.1", urlsplit(server.url).port or 0))
        idle.sendall(f"GET /v1/weights/{server.model.digest} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await until(lambda: server.door.refused["answer_too_slow"])
