"""Real calls on two nodes, one of which dies or is upgraded."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr

from earshot.codec.weights.load import save_native
from earshot.lab import VOICES
from earshot.protocol.messages import PeerJoined
from tests.end_to_end.earshot_process import PATIENT_ENV, EarshotCall, EarshotServer, hears
from tests.nats_server import NatsServer, nats_server
from tests.peers import TestPeer, bystanders, join, running_server, tiny_model, until

__all__ = ["nats_server"]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_native(tiny_model().network, path)
    return path


def node(folder: Path, model: Path, bus: NatsServer, name: str, port: int = 0) -> EarshotServer:
    public = f"ws://127.0.0.1:{port}" if port else ""
    more = ["--bus", bus.url, "--node", name, *(["--public-url", public] if public else [])]
    return EarshotServer(folder, model, port, *more, env=PATIENT_ENV | {"EARSHOT_DRAIN_S": "60"})


def call(folder: Path, name: str, servers: str, model: Path) -> EarshotCall:
    arguments = ["den", "--server", servers, "--model", model, "--name", name, "--input", VOICES / f"{name}.flac"]
    more = ["--loop", "--uplink", "codes", "--no-dtx", "--output", folder / f"{name}.wav"]
    return EarshotCall(*arguments, *more, report=folder / f"{name}.json")


def talks(peer: TestPeer, name: str, frames: int = 20) -> bool:
    """Whether the newest of those who were called so is heard."""
    infos = [*peer.welcome.peers, *(told.peer for told in peer.of(PeerJoined))]
    ids = [info.id for info in infos if info.name.startswith(name)]
    return bool(ids) and peer.heard[ids[-1]].frames >= frames


async def test_calls_of_a_node_that_dies_go_on_at_another_and_others_are_not_touched(
    tmp_path: Path, model_file: Path, nats_server: NatsServer
) -> None:
    with ExitStack() as stack:
        alive = stack.enter_context(running_server(tiny_model(), bus=SecretStr(nats_server.url), node="alive"))
        dies = stack.enter_context(node(tmp_path, model_file, nats_server, "dies"))
        await until(lambda: alive.hub.nodes.presence.nodes)
        listener = await join(alive, "den")
        ada = stack.enter_context(call(tmp_path, "ada", f"{dies.url},{alive.url}", model_file))
        await until(lambda: talks(listener, "ada"))
        async with bystanders(alive, "calm"):
            dies.kill()
            await until(lambda: len(alive.hub.rooms["den"].room.peers) == 2)
            listener.heard.clear()
            await until(lambda: talks(listener, "ada"))
        assert listener.socket.close_code is None
        await until(lambda: not alive.hub.rooms["den"].room.guests)
        await asyncio.to_thread(ada.wait_for, lambda status: status["reconnects"] == 1 and status["connected"])
        report = await asyncio.to_thread(ada.leave)
        assert report["reconnects"] == 1
        await listener.leave()


def test_two_nodes_are_upgraded_one_after_the_other_and_no_call_is_dropped(
    tmp_path: Path, model_file: Path, nats_server: NatsServer
) -> None:
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        a, b = (
            stack.enter_context(node(tmp_path, model_file, nats_server, name, port))
            for name, port in zip("ab", ports, strict=True)
        )
        ada = stack.enter_context(call(tmp_path, "ada", a.url, model_file))
        ben = stack.enter_context(call(tmp_path, "ben", b.url, model_file))
        ada.wait_for(hears("ben"))
        ben.wait_for(hears("ada"))
        a.drain()
        assert a.ended() == 0
        ada.wait_for(lambda status: status["reconnects"] == 1 and status["connected"])
        stack.enter_context(node(tmp_path, model_file, nats_server, "a2", ports[0]))
        b.drain()
        assert b.ended() == 0
        for one, other, reconnects in ((ada, "ben", 2), (ben, "ada", 1)):
            one.wait_for(lambda status, count=reconnects: status["reconnects"] == count and status["connected"])
            one.wait_for(hears(other))
        assert [each.leave()["reconnects"] for each in (ada, ben)] == [2, 1]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
