"""The `earshot serve` command as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from earshot.codec.bitstream import pack
from earshot.codec.weights.load import save_native
from earshot.protocol.messages import SUBPROTOCOL, Hello, Stats, Welcome, parse_server
from earshot.protocol.packet import Packet, encode_codes_up
from tests.peers import tiny_model

COMMAND = [sys.executable, "-m", "earshot", "serve"]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_listens_and_ends_cleanly_when_told(tmp_path: Path, stop: signal.Signals) -> None:
    model = tiny_model()
    hostile = replace(model.network.config, name="ti\x1b[2Jny")  # a file of weights says what its model is called
    model.network.config = hostile
    save_native(model.network, tmp_path / "tiny.safetensors")
    ready = tmp_path / "ready.json"
    command = [*COMMAND, "--port", "0", "--model", str(tmp_path / "tiny.safetensors"), "--ready-file", str(ready)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        told = json.loads(ready.read_text())
        assert line == f"listening on ws://127.0.0.1:{told['port']} (model ti[2Jny {model.digest})\n"
        assert told == {"url": f"ws://127.0.0.1:{told['port']}", "port": told["port"], "model": hostile.name} | {
            "digest": model.digest
        }
        async with connect(told["url"] + "/v1/rooms/blue", subprotocols=[SUBPROTOCOL]) as peer:
            await peer.send(Hello(protocol=1, send="none", want="pcm").model_dump_json())
            assert isinstance(parse_server(await peer.recv()), Welcome)
            process.send_signal(stop)
            with pytest.raises(ConnectionClosed):
                await until_closed(peer)
            assert peer.close_code == 4010
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until_closed(peer: object) -> None:
    async with asyncio.timeout(60):
        while True:
            await peer.recv()  # type: ignore[attr-defined]


async def test_an_address_that_is_taken_is_one_line_and_status_1(tmp_path: Path) -> None:
    save_native(tiny_model().network, tmp_path / "tiny.safetensors")
    taken = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    command = [*COMMAND, "--port", str(port), "--model", str(tmp_path / "tiny.safetensors")]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    _, said = await asyncio.wait_for(process.communicate(), 60)
    taken.close()
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in " ".join(said.decode().split())
    assert "Traceback" not in said.decode()


def test_a_ready_file_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    save_native(tiny_model().network, tmp_path / "tiny.safetensors")
    command = [*COMMAND, "--port", "0", "--model", str(tmp_path / "tiny.safetensors")]
    nowhere = str(tmp_path / "missing" / "ready.json")
    done = subprocess.run([*command, "--ready-file", nowhere], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "choose another --ready-file" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("level", "logged"), [([], ["joined", "left"]), (["--log-level", "warning"], [])], ids=["default", "warning"]
)
async def test_who_comes_and_goes_is_logged_to_stderr(tmp_path: Path, level: list[str], logged: list[str]) -> None:
    save_native(tiny_model().network, tmp_path / "tiny.safetensors")
    command = [*COMMAND, "--port", "0", "--model", str(tmp_path / "tiny.safetensors"), *level]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        async with connect(line.split()[2] + "/v1/rooms/blue", subprotocols=[SUBPROTOCOL]) as peer:
            await peer.send(Hello(protocol=1, send="none", want="pcm", name="Ada").model_dump_json())
            assert isinstance(parse_server(await peer.recv()), Welcome)
        process.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = [line for line in said.decode().splitlines() if "earshot.audit" in line]
    assert [line.split("earshot.audit: ")[1].split()[0] for line in lines] == logged
    assert all('address="127.0.0.1" room="blue" peer=1 name="Ada"' in line for line in lines)
    assert "uvicorn" not in said.decode()
    assert "INFO: " not in said.decode()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP")
async def test_a_server_that_was_stopped_for_a_while_keeps_those_who_talked_on(tmp_path: Path) -> None:
    model = tiny_model()
    save_native(model.network, tmp_path / "tiny.safetensors")
    ready = tmp_path / "ready.json"
    command = [*COMMAND, "--port", "0", "--model", str(tmp_path / "tiny.safetensors"), "--ready-file", str(ready)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 60)
        url = json.loads(ready.read_text())["url"] + "/v1/rooms/blue"
        async with connect(url, subprotocols=[SUBPROTOCOL], compression=None, ping_interval=None) as peer:
            await peer.send(Hello(protocol=1, model=model.digest, send="codes", want="none").model_dump_json())
            await peer.recv()
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGSTOP)
            codes = pack(np.ones((2, 1), int))
            loop = asyncio.get_running_loop()
            began, number = loop.time(), 0
            while loop.time() - began < 5:  # more messages than one that is no pause may send at once
                while number * 320 / 24_000 < loop.time() - began:
                    await peer.send(encode_codes_up(Packet(2, 1, number, number * 320, codes)))
                    number += 1
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGCONT)
            async with asyncio.timeout(30):
                while True:
                    told = parse_server(str(await peer.recv()))  # raises ConnectionClosed where it was sent away
                    if isinstance(told, Stats) and told.frames_received == number:
                        break
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        await process.wait()
