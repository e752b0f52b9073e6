"""`/readyz` under overload, and the application that any ASGI server can run."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
import urllib.error
from pathlib import Path

import httpx
import numpy as np

from earshot.codec.weights.load import save_native
from earshot.server.clock import clock_us
from earshot.server.core.admission import LatencyWindow
from tests.peers import PATIENCE_S, RunningServer, join, running_server, tiny_model, until


def readiness(server: RunningServer) -> tuple[int, str]:
    try:
        return 200, server.get("/readyz")["status"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, httpx.Response(error.code, content=error.read()).json()["status"]


async def becomes(server: RunningServer, status: int) -> str:
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await asyncio.to_thread(readiness, server))[0] != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return answer[1]


async def test_overload_turns_a_server_unready_and_it_recovers() -> None:
    with running_server(tiny_model()) as server:
        assert await becomes(server, 200) == "ready"

        async def keep_busy(seconds: float) -> None:
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s:
                time.sleep(0.1)  # noqa: ASYNC251 -- the loop stands still, as when it has too much to do
                await asyncio.sleep(0.001)

        busy = asyncio.run_coroutine_threadsafe(keep_busy(2.0), server.loop)
        assert "the event loop is late" in await becomes(server, 503)
        await asyncio.wrap_future(busy)
        await becomes(server, 200)

        began_us = clock_us() - 2_500_000
        late = LatencyWindow(began_us)
        for after_us in (0, 1_000_000, 2_000_000):
            late.add([10**9] * 100, 0, began_us + after_us)
        server.hub.pool.load.latency = late
        assert "frames are coded late" in await becomes(server, 503)
        await becomes(server, 200)


async def test_a_server_whose_worker_has_died_takes_no_calls() -> None:
    with running_server(tiny_model()) as server:
        session = server.hub.pool.open("encoder", lambda result: None)
        session.slot = 10_000  # none that the engine knows
        session.close()
        assert await becomes(server, 503) == "a codec worker has ended"


def test_head_is_answered_wherever_get_is() -> None:
    with (
        running_server(tiny_model()) as server,
        httpx.Client(base_url=server.url.replace("ws", "http", 1), timeout=PATIENCE_S) as client,
    ):
        described = client.get("/openapi.json").json()["paths"]
        assert {"/healthz", "/readyz", "/stats", "/v1/model", "/v1/rooms"} <= set(described)
        for path in ["/docs", "/openapi.json", *(path for path, methods in described.items() if "get" in methods)]:
            url = path.replace("{room}", "den").replace("{digest}", server.model.digest)
            head = client.head(url)
            assert (head.status_code, head.content) == (client.get(url).status_code, b""), path


async def test_uvicorn_serves_the_application_from_the_environment_alone(tmp_path: Path) -> None:
    weights = tmp_path / "served.safetensors"
    model = tiny_model()
    save_native(model.network, weights)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "uvicorn", "--factory", "earshot.server.app:create_app", "--port", str(port)]
    settings = {"EARSHOT_MODEL": str(weights), "EARSHOT_WORKERS": "1", "EARSHOT_MAX_ROOMS": "1"}
    process = await asyncio.create_subprocess_exec(*words, env=os.environ | settings, cwd=tmp_path)
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client, asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    answer = await client.get("/readyz")
                    break
                except httpx.ConnectError:
                    assert process.returncode is None
                    await asyncio.sleep(0.1)
            assert answer.json() == {"status": "ready"}
            assert (await client.get("/v1/model")).json()["digest"] == model.digest
        served = RunningServer(f"ws://127.0.0.1:{port}", model, None, None, asyncio.get_running_loop())  # type: ignore[arg-type]
        one, other = await join(served, "den"), await join(served, "den")
        await one.send_codes(np.ones((4, 3), np.int64))
        await until(lambda: other.heard[one.id].frames == 3)
        for peer in (one, other):
            await peer.leave()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) in (0, -signal.SIGTERM)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
