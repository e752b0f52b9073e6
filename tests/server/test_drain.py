"""A server that ends, and lets those who talk finish."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from earshot.codec.weights.load import save_native
from earshot.protocol.close_codes import CloseCode
from earshot.protocol.messages import Draining
from tests.peers import PATIENCE_S, START_S, RunningServer, TestPeer, join, running_server, tiny_model, until
from tests.server.access.test_paths import SECRET, ask, refused, token


async def told(peer: TestPeer) -> Draining:
    await until(lambda: peer.of(Draining))
    return peer.of(Draining)[-1]


async def test_a_drained_server_ends_when_all_have_left() -> None:
    with running_server(tiny_model(), token_key=SECRET) as server:
        mine = token(room="*")
        one = await join(server, "den", token=mine)
        url = server.url + "/v1/drain?within_s=300"
        assert (await asyncio.to_thread(ask, url, None, "POST"))[0] == 401
        assert (await asyncio.to_thread(ask, url, token(moderate=True), "POST"))[0] == 403
        assert (await asyncio.to_thread(ask, server.url + "/readyz"))[0] == 200
        assert await asyncio.to_thread(ask, url, token(operate=True), "POST") == (202, {"rooms": 1, "within_s": 300})
        assert (await told(one)).within_s in (299, 300)
        assert (await refused(server, "another", token=mine)).code == CloseCode.SHUTTING_DOWN
        other = await join(server, "den", token=mine)
        await told(other)
        assert await asyncio.to_thread(ask, server.url + "/readyz") == (503, {"status": "this server is drained"})
        await one.leave()
        await asyncio.sleep(0.3)
        assert not server.hub.shutting_down, "somebody is left"
        await other.leave()
        await until(lambda: server.hub.shutting_down)


async def test_a_drain_has_an_end() -> None:
    with running_server(tiny_model(), open=True, health_port=0) as server:
        peer = await join(server, "den")
        assert (await asyncio.to_thread(ask, server.url + "/v1/drain", None, "POST"))[0] == 401, "strangers may not"
        health = f"{server.health_url}/v1/drain"
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            answer = await client.post(health.replace("ws", "http", 1), headers={"X-Forwarded-For": "203.0.113.5"})
            assert answer.status_code == 401, "nor at that port, from other machines"
        assert (await asyncio.to_thread(ask, health + "?within_s=-1", None, "POST"))[0] == 422
        assert (await asyncio.to_thread(ask, health + "?within_s=1", None, "POST"))[0] == 202
        assert (await peer.closed())[0] == CloseCode.SHUTTING_DOWN
        assert await told(peer) == Draining(within_s=1)


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]], ids=["one", "two"])
async def test_sigterm_drains(tmp_path: Path, signals: list[signal.Signals]) -> None:
    model = tiny_model()
    save_native(model.network, tmp_path / "tiny.safetensors")
    command = [sys.executable, "-m", "earshot", "serve", "--port", "0", "--model", str(tmp_path / "tiny.safetensors")]
    settings = {"EARSHOT_DRAIN_S": "300", "OMP_NUM_THREADS": "1"}
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env=os.environ | settings)
    try:
        assert process.stdout is not None
        url = (await asyncio.wait_for(process.stdout.readline(), START_S)).decode().split()[2]
        nothing: Any = None
        peer = await join(RunningServer(url, model, nothing, None, asyncio.get_running_loop()), "den")
        for each in signals:
            process.send_signal(each)
            await told(peer)
        if len(signals) == 1:
            await peer.leave()
        else:
            assert (await peer.closed())[0] == CloseCode.SHUTTING_DOWN
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
