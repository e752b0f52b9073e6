"""Threads of a real server that get stuck: it is seen, said and, once over, forgotten."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import websockets

from earshot.protocol.messages import Error, Hello, parse_server
from earshot.server.watchdog import Activity, Watchdog
from tests.peers import RunningServer, join, noise, running_server, tiny_model, until

STUCK_AFTER_S = 0.5
STUCK_WORKER = f"a codec worker is stuck: a step has taken more than {STUCK_AFTER_S} s"
STUCK_RECORDER = f"the recorder is stuck: a step has taken more than {STUCK_AFTER_S} s"
STUCK_LOOP = f"the event loop is stuck: a step has taken more than {STUCK_AFTER_S} s"


def health(server: RunningServer) -> dict[str, Any]:
    try:
        return server.get("/healthz")
    except urllib.error.HTTPError as refusal:
        with refusal:
            return {"code": refusal.code} | json.load(refusal)


def test_a_step_is_stuck_once_it_takes_too_long() -> None:
    activity = Activity("a thread", 0.05)
    assert activity.fault() is None
    with activity:
        assert not activity.stuck
        time.sleep(0.06)
        assert activity.fault() == "a thread is stuck: a step has taken more than 0.05 s"
    time.sleep(0.06)
    assert activity.fault() is None


async def test_a_codec_step_that_hangs_is_seen_and_no_speaker_comes_in_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go = threading.Event()
    with running_server(tiny_model(), stuck_after_s=STUCK_AFTER_S) as server:
        engine = server.hub.pool._engine
        encode = engine.encode

        def hang(*arguments: Any) -> Any:
            go.wait(60)
            return encode(*arguments)

        speaker = await join(server, "den", send="pcm")
        listener = await join(server, "den", send="none")
        engine.encode = hang
        try:
            await speaker.send_pcm(noise(1, 1), 0, 0)
            await until(lambda: server.hub.watchdog.faults())
            assert health(server) == {"code": 503, "status": STUCK_WORKER}
            await until(lambda: server.get("/stats")["watchdog"] == {"faults": [STUCK_WORKER], "faults_total": 1})
            async with websockets.connect(server.room("den"), subprotocols=["earshot.v1"]) as late:
                hello = Hello(protocol=1, model=server.model.digest, send="pcm")
                await late.send(hello.model_dump_json())
                refusal = parse_server(await late.recv())
            assert isinstance(refusal, Error)
            assert (refusal.code, "does not work now" in refusal.message) == (4013, True)
        finally:
            go.set()
        await until(lambda: listener.heard[speaker.id].frames)
        await until(lambda: f"no longer: {STUCK_WORKER}" in caplog.text)
        assert health(server) == {"status": "ok"}
        another = await join(server, "den", send="pcm")
        for peer in (speaker, listener, another):
            await peer.leave()


async def test_a_write_that_hangs_is_seen(tmp_path: Path) -> None:
    go = threading.Event()

    def write(handle: int, data: memoryview) -> int:
        go.wait(60)
        return os.write(handle, data)

    with running_server(tiny_model(), record_to=tmp_path, record_rooms="*", stuck_after_s=STUCK_AFTER_S) as server:
        server.hub.recorder.writer._write_bytes = write
        try:
            ada = await join(server, "den")
            await ada.talk(np.ones((8, 5), int))
            await until(lambda: server.hub.watchdog.faults())
            assert health(server) == {"code": 503, "status": STUCK_RECORDER}
        finally:
            go.set()
        await until(lambda: health(server) == {"status": "ok"})
        await ada.leave()


async def test_an_event_loop_that_hangs_is_seen_from_outside_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()
    with running_server(tiny_model(), stuck_after_s=STUCK_AFTER_S) as server:
        server.call_soon(lambda: go.wait(60))
        try:
            await until(lambda: server.hub.watchdog.faults() == [STUCK_LOOP])
            await until(lambda: STUCK_LOOP in caplog.text)
        finally:
            go.set()
        await until(lambda: health(server) == {"status": "ok"})
        await until(lambda: f"no longer: {STUCK_LOOP}" in caplog.text)
        assert server.get("/stats")["watchdog"]["faults_total"] == 1


async def test_a_watchdog_that_cannot_look_looks_on(caplog: pytest.LogCaptureFixture) -> None:
    looks = 0

    def look() -> list[str]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise RuntimeError("once")
        return ["it is broken"]

    watchdog = Watchdog(0.4, look)
    await watchdog.start()
    await until(lambda: "it is broken" in caplog.text)
    await watchdog.stop()
    assert "the watchdog could not look" in caplog.text
