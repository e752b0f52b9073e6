"""Proxies, redirects, TLS where there is none, and addresses of both kinds: each works, or has its
sentence."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from earshot.client.net.moderation import who_is_in
from earshot.client.net.websocket import Lost, open_connection, room_url
from earshot.codec import proxies
from earshot.codec.errors import CallError, DownloadError, UsageError
from earshot.codec.proxies import is_near, proxy_for
from earshot.codec.weights.download import Release, RetryPolicy, fetch
from earshot.server.net.serve import bind

VARIABLES = ("http", "https", "ws", "wss", "all", "no", "socks")
FAR = "calls.example.org"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


NEAR = [
    *("127.0.0.1", "127.9.9.9", "::1", "localhost", "a.localhost", "10.1.2.3", "172.16.0.1", "192.168.1.20"),
    *(
        "169.254.1.1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104
        "server",
        "nas.local",
    ),
]


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "all_proxy", "ws_proxy", "HTTPS_PROXY"])
def test_what_is_near_is_reached_directly(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    for host in NEAR:
        assert is_near(host)
        shown = f"[{host}]" if ":" in host else host
        for scheme in ("ws", "wss", "http", "https"):
            assert proxy_for(f"{scheme}://{shown}:8765/v1/rooms/den") is None


@pytest.mark.parametrize("host", [FAR, "8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "localhost.example.org"])
def test_what_is_far_is_not_near(host: str) -> None:
    assert not is_near(host)


CHOSEN = [
    ({"https_proxy": "http://p:1"}, "wss", "http://p:1"),
    ({"https_proxy": "http://p:1"}, "ws", "http://p:1"),
    ({"http_proxy": "http://p:1"}, "wss", None),
    ({"http_proxy": "http://p:1"}, "ws", "http://p:1"),
    ({"all_proxy": "http://p:1"}, "https", "http://p:1"),
    ({"all_proxy": "http://p:1", "https_proxy": "http://q:1"}, "wss", "http://q:1"),
    ({"https_proxy": "p:8080"}, "wss", "http://p:8080"),
    ({"https_proxy": "me:word@p:8080"}, "wss", "http://me:word@p:8080"),
    ({"https_proxy": "http://p:1", "no_proxy": FAR}, "wss", None),
    ({"https_proxy": "http://p:1", "no_proxy": "*"}, "wss", None),
    ({"https_proxy": "http://p:1", "no_proxy": ".example.org"}, "wss", None),
    ({"https_proxy": ""}, "wss", None),
]


@pytest.mark.parametrize(("given", "scheme", "chosen"), CHOSEN)
def test_which_proxy_counts(
    given: dict[str, str], scheme: str, chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(f"{scheme}://{FAR}/") == chosen


BAD = {
    "socks5h://me:secret@127.0.0.1:9050": "socks5h://127.0.0.1:9050 (https_proxy) speaks SOCKS",
    "socks5://127.0.0.1": "speaks SOCKS, which needs a package more: pip install",
    "ftp://127.0.0.1:1": "the proxy ftp://127.0.0.1:1 (https_proxy) is none that can be used",
    "http://": "is none that can be used",
    "http://h:port": "is none that can be used",
    "http://h:99999": "is none that can be used",
    ":8080": "is none that can be used",
}


def call() -> None:
    asyncio.run(open_connection(room_url(f"wss://{FAR}", "den")))


def moderate() -> None:
    who_is_in(f"wss://{FAR}", "den", None)


def download() -> None:
    policy = RetryPolicy(attempts=1, connect_s=5)
    fetch(Release("w.th", 4, "00"), Path("w.th"), f"https://{FAR}/", policy, sleep=lambda _: None)


WAYS: list[Callable[[], None]] = [call, moderate, download]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("proxy", BAD)
def test_a_proxy_that_cannot_be_used_is_named(
    proxy: str, way: Callable[[], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(proxies, "find_spec", lambda _: None)
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises((UsageError, DownloadError)) as error:
        way()
    assert BAD[proxy] in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("way", WAYS)
def test_a_proxy_that_is_dead_is_named(
    way: Callable[[], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("https_proxy", "http://me:secret@127.0.0.1:1")
    with pytest.raises((Lost, CallError, DownloadError), match=r"the proxy http://127\.0\.0\.1:1") as error:
        way()
    assert "secret" not in str(error.value)
    assert "earshot serve" not in str(error.value)


@asynccontextmanager
async def a_proxy(answer: bytes, port: int = 0) -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that leads everywhere to one port of this machine, or answers something else."""
    asked: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode())
        writer.write(answer)
        if port:
            there, back = await asyncio.open_connection("127.0.0.1", port)

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                with contextlib.suppress(OSError):
                    while data := await source.read(4096):
                        sink.write(data)
                sink.close()

            await asyncio.gather(pump(reader, back), pump(there, writer))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def quiet(connection: ServerConnection) -> None:
    await connection.wait_closed()


@asynccontextmanager
async def a_server(**more: object) -> AsyncIterator[int]:
    async with serve(quiet, "127.0.0.1", 0, subprotocols=[Subprotocol("earshot.v1")], **more) as server:  # type: ignore[arg-type]
        yield server.sockets[0].getsockname()[1]


async def test_a_far_server_is_reached_through_the_proxy_and_a_near_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_server() as port, a_proxy(b"HTTP/1.1 200 OK\r\n\r\n", port) as (proxy, asked):
        monkeypatch.setenv("http_proxy", proxy)
        connection = await open_connection(room_url(f"ws://{FAR}:8765", "den"))
        await connection.close()
        assert asked == [f"CONNECT {FAR}:8765 HTTP/1.1"]
        connection = await open_connection(room_url(f"ws://127.0.0.1:{port}", "den"))
        await connection.close()
        assert len(asked) == 1


SAYS = {
    b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n": "it answered 407",
    b"HTTP/1.1 403 Forbidden\r\n\r\n": "it answered 403",
    b"SSH-2.0-x\r\n": "does not answer as a proxy",
    b"": "does not answer as a proxy",
}


@pytest.mark.parametrize("answer", SAYS, ids=lambda answer: answer.decode().split("\r")[0] or "nothing")
async def test_what_a_proxy_says_is_told_of_the_proxy(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_proxy(answer) as (proxy, _):
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(Lost, match=SAYS[answer]) as lost:
            await open_connection(room_url(f"ws://{FAR}", "den"))
        assert f"the proxy {proxy}" in str(lost.value)
        assert f"name {FAR} in no_proxy" in str(lost.value)


@pytest.mark.parametrize("scheme", ["http", "ws", "HTTP"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_followed(scheme: str, status: int) -> None:
    async with a_server() as port:

        def send_on(_: ServerConnection, request: Request) -> Response:
            place = f"{scheme}://127.0.0.1:{port}{request.path}"
            return Response(status, HTTPStatus(status).phrase, Headers(Location=place))

        async with a_server(process_request=send_on) as first:
            connection = await open_connection(room_url(f"ws://127.0.0.1:{first}", "den"))
            assert connection.request is not None
            assert connection.request.headers["Host"] == f"127.0.0.1:{port}"
            await connection.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")]), datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = made.not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, SHA256())
    form = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    (folder / "pem").write_bytes(key.private_bytes(*form) + signed.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem")
    return context


async def test_ws_where_wss_is_needed_and_the_other_way_round(certificate: ssl.SSLContext) -> None:
    async with a_server(ssl=certificate) as port:
        with pytest.raises(Lost, match="where it has TLS, write wss://"):
            await open_connection(room_url(f"ws://127.0.0.1:{port}", "den"))
        with pytest.raises(Lost, match=r"wss://.* has a certificate that nobody vouches for"):
            await open_connection(room_url(f"wss://127.0.0.1:{port}", "den"))
    async with a_server() as port:
        with pytest.raises(Lost, match=r"where it has no TLS, write ws://"):
            await open_connection(room_url(f"wss://127.0.0.1:{port}", "den"))

    def plain(_: ServerConnection, __: Request) -> Response:
        return Response(400, "The plain HTTP request was sent to HTTPS port", Headers())

    async with a_server(process_request=plain) as port:
        with pytest.raises(Lost, match=r"HTTP status 400.*write wss://"):
            await open_connection(room_url(f"ws://127.0.0.1:{port}", "den"))


@pytest.mark.skipif(not socket.has_dualstack_ipv6() or bool(os.environ.get("NO_IPV6")), reason="no IPv6 here")
@pytest.mark.parametrize(
    ("host", "reached"),
    [("::", ["::1", "127.0.0.1"]), ("::1", ["::1"]), ("0.0.0.0", ["127.0.0.1"])],  # noqa: S104
)
def test_every_address_is_that_of_both_kinds(host: str, reached: list[str]) -> None:
    with bind(host, 0) as listener:
        port = listener.getsockname()[1]
        for address in ("::1", "127.0.0.1"):
            try:
                socket.create_connection((address, port), 2).close()
                there = True
            except OSError:
                there = False
            assert there == (address in reached)
