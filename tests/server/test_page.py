"""The page as a server gives it away."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator

import httpx
import pytest

from earshot import web
from earshot.server.routes.page import TYPES
from tests.peers import RunningServer, running_server, tiny_model


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(tiny_model()) as running:
        yield running


@pytest.fixture
def http(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url.replace("ws://", "http://")) as client:
        yield client


def test_the_page_may_load_nothing_of_others_and_nobody_may_frame_it(http: httpx.Client) -> None:
    for path in ("/", "/page/main.js", "/page/call/worker.js", "/page/codec/simd.wasm"):
        answer = http.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
        assert not re.search(r"https?:|\*", policy)
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_file_that_a_file_names_is_there_and_no_other_site_is_named(http: httpx.Client) -> None:
    names = {path.relative_to(web.FOLDER).as_posix() for path in web.FOLDER.rglob("*") if path.suffix in TYPES}
    assert {"main.js", "index.html", "style.css", "codec/simd.wasm", "codec/relaxed.wasm"} <= names
    for name in names:
        answer = http.get("/" if name == "index.html" else f"/page/{name}")
        assert answer.content == (web.FOLDER / name).read_bytes()
        assert answer.headers["content-type"] == TYPES["." + name.rsplit(".", 1)[1]]
        if name.endswith((".html", ".css", ".js")):
            sites = set(re.findall(r"(?:https?|wss?)://([\w.-]+)", answer.text))
            assert sites <= {"HOST", "localhost"}, name
    for named in re.findall(r'(?:href|src)="(page/[^"]+)"', http.get("/").text):
        assert http.get(f"/{named}").status_code == 200, named


def test_nothing_but_the_page_is_given_away(http: httpx.Client) -> None:
    for path in (
        "__init__.py",
        "package.json",
        "codec/api.cpp",
        "codec/SHA256SUMS",
        "../server/app.py",
        "%2e%2e/setup.py",
    ):
        assert http.get(f"/page/{path}").status_code == 404


def test_what_a_browser_has_is_not_sent_again(http: httpx.Client) -> None:
    first = http.get("/page/main.js")
    again = http.get("/page/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    with http.stream("GET", "/page/codec/simd.wasm", headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    whole = (web.FOLDER / "codec/simd.wasm").read_bytes()
    assert gzip.decompress(raw) == whole
    assert len(raw) < len(whole) / 2


def test_the_own_page_may_come_in_and_a_foreign_one_may_not(http: httpx.Client) -> None:
    host = http.base_url.netloc.decode()
    assert http.get("/v1/model", headers={"Origin": f"http://{host}"}).status_code == 200
    assert http.get("/v1/model", headers={"Origin": "https://elsewhere.example"}).status_code == 403
