"""Calls over TLS without a proxy: a certificate that the server makes, known by its fingerprint."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from earshot.client.net.tls import pinned
from earshot.client.net.websocket import Lost, join, open_connection
from earshot.codec.errors import CallError, UsageError
from earshot.codec.weights.load import save_native
from earshot.protocol.messages import PROTOCOL, Hello
from earshot.protocol.packet import Packet, decode_down, encode_codes_up
from earshot.server.net.lan import address_for_others
from earshot.server.net.tls import LOOK_EVERY_S, Tls, server_tls
from tests.peers import PATIENCE_S, START_S, tiny_model


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_a_server_keeps_the_certificate_that_it_made(config: Path) -> None:
    first, second = server_tls("self-signed", None), server_tls("self-signed", None)
    assert first is not None
    assert second is not None
    assert first.fingerprint == second.fingerprint
    made = config / "earshot" / "tls.pem"
    assert made.stat().st_mode & 0o077 == 0, "its key is for nobody else"
    own = server_tls(str(made), None)
    assert own is not None
    assert (own.fingerprint, own.self_signed) == (first.fingerprint, False)
    assert server_tls("", None) is None


def offered(tls: Tls, now_s: float) -> bytes | None:
    """The certificate that a client gets."""
    ours, theirs = socket.socketpair()
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    with ThreadPoolExecutor() as pool:
        greeted = pool.submit(tls.context(now_s).wrap_socket, ours, server_side=True)
        with client.wrap_socket(theirs) as wrapped, greeted.result(PATIENCE_S):
            return wrapped.getpeercert(binary_form=True)


def test_a_renewed_certificate_is_taken_without_a_new_start(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_tls("self-signed", None) is not None
    old = config / "earshot" / "tls.pem"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config / "other"))
    assert server_tls("self-signed", None) is not None
    new = config / "other" / "earshot" / "tls.pem"
    tls = server_tls(str(old), None)
    assert tls is not None
    now = time.monotonic()
    before, expected = offered(tls, now), ssl.PEM_cert_to_DER_cert(new.read_text().partition("-----BEGIN PRIV")[0])
    assert before != expected
    (config / "half").write_text("half a renewal")
    os.replace(config / "half", old)
    assert offered(tls, now + LOOK_EVERY_S) == before
    os.replace(new, old)
    assert offered(tls, now + 1.5 * LOOK_EVERY_S) == before  # it is not looked at each time
    assert offered(tls, now + 2 * LOOK_EVERY_S) == expected


def test_a_key_that_asks_for_a_password_stops_nothing(config: Path) -> None:
    assert server_tls("self-signed", None) is not None
    made = config / "earshot" / "tls.pem"
    key = serialization.load_pem_private_key(made.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    (config / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))
    with pytest.raises(UsageError, match="asks for a password"):
        server_tls(str(made), config / "key.pem")


def test_what_is_no_certificate(config: Path) -> None:
    (config / "words.pem").write_text("words")
    for certificate, key, said in (
        ("words.pem", None, "cannot be used"),
        ("missing.pem", None, "cannot be used"),
        ("", config / "key.pem", "asks for --tls"),
    ):
        with pytest.raises(UsageError, match=said):
            server_tls(str(config / certificate) if certificate else "", key)


def test_the_address_for_others() -> None:
    assert address_for_others("127.0.0.1") is address_for_others("::1") is address_for_others("localhost") is None
    assert address_for_others("192.168.1.20") == "192.168.1.20"
    assert address_for_others("talk.example.org") == "talk.example.org"
    mine = address_for_others("0.0.0.0")  # noqa: S104
    assert mine is None or mine != "0.0.0.0"  # noqa: S104


async def test_a_call_over_tls_and_who_is_not_let_in(config: Path) -> None:
    model = tiny_model()
    save_native(model.network, config / "tiny.safetensors")
    command = [sys.executable, "-m", "earshot", "serve", "--port", "0", "--model", str(config / "tiny.safetensors")]
    settings = {"EARSHOT_HELLO_TIMEOUT_S": "2", "OMP_NUM_THREADS": "1", "EARSHOT_HEALTH_PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        *command, "--tls", "self-signed", stdout=subprocess.PIPE, env=os.environ | settings
    )
    try:
        assert process.stdout is not None
        lines = [(await asyncio.wait_for(process.stdout.readline(), START_S)).decode().split() for _ in range(3)]
        url, fingerprint, health = lines[0][2], lines[1][-1], lines[2][-1]
        assert url.startswith("wss://127.0.0.1:")
        port = int(url.rpartition(":")[2])
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]  # they never greet
        with pytest.raises(Lost, match="nobody vouches for"):
            await open_connection(url + "/v1/rooms/den")
        with pytest.raises(CallError, match="another certificate"):
            await asyncio.to_thread(pinned, url, "0" * 64)
        shown = ":".join(fingerprint[at : at + 2].upper() for at in range(0, 64, 2))
        context = await asyncio.to_thread(pinned, url, shown)
        peers = [await open_connection(url + "/v1/rooms/den", context) for _ in range(2)]
        hello = Hello(protocol=PROTOCOL, model=model.digest, send="codes")
        await join(peers[0], hello)
        await join(peers[1], hello)
        for sequence in range(50):
            await peers[0].send(encode_codes_up(Packet(4, 1, sequence, sequence * 320, bytes(5))))
        heard = 0
        async with asyncio.timeout(PATIENCE_S):
            while heard < 50:
                message = await peers[1].recv()
                heard += sum(part.frames for part in decode_down(message)) if isinstance(message, bytes) else 0  # type: ignore[union-attr]
        async with httpx.AsyncClient(verify=context, timeout=PATIENCE_S) as client:
            weights = (await client.get(url.replace("wss", "https") + f"/v1/weights/{model.digest}")).content
            assert weights == (config / "tiny.safetensors").read_bytes()
            refused = (await client.get(health + "/stats")).json()["door"]
            assert refused["open"] >= 2, "the port for figures speaks plain HTTP"
        for peer in peers:
            await peer.close()
        for each in silent:
            each.settimeout(PATIENCE_S)
            assert await asyncio.to_thread(each.recv, 1) == b"", "cut after its time"
            each.close()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_certificate_of_another_is_not_taken(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even between the look at the certificate and the call."""
    mine = server_tls("self-signed", None)
    assert mine is not None
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config / "other"))
    other = server_tls("self-signed", None)
    assert other is not None

    async def serve(context: ssl.SSLContext, port: int = 0) -> asyncio.Server:
        return await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port, ssl=context)

    first = await serve(mine.context())
    port = first.sockets[0].getsockname()[1]
    context = await asyncio.to_thread(pinned, f"wss://127.0.0.1:{port}", mine.fingerprint)
    first.close()
    await first.wait_closed()
    second = await serve(other.context(), port)
    with pytest.raises(Lost, match="nobody vouches for"):
        await open_connection(f"wss://127.0.0.1:{port}/v1/rooms/den", context)
    second.close()
    await second.wait_closed()
