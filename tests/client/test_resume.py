"""Calls whose sockets break in the middle, on loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import soundfile

from earshot.client.audio.endpoints import NoSink, NoSource
from earshot.client.audio.files import FileSink, FileSource
from earshot.client.call import Call
from earshot.client.settings import CallSettings
from earshot.client.wiring import make_call
from earshot.codec.model.model import Model
from earshot.protocol.messages import PeerJoined, PeerLeft
from tests.peers import join, running_server, until
from tests.pipe import pipe_to

RATE = 24_000


def call_of(url: str, model: Model, said: Path | None, heard: Path | None) -> Call:
    source = FileSource(said, loop=True) if said else NoSource()
    settings = CallSettings("den", url, uplink="codes", dtx=False, trace_every_s=0.0)
    return make_call(settings, model, source, FileSink(heard) if heard else NoSink())


async def test_a_call_goes_on_in_its_seat_after_its_socket_broke(tmp_path: Path, tiny_model: Model) -> None:
    noise = np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "said.wav", noise, RATE)
    with running_server(tiny_model) as server:
        async with pipe_to(server.url) as pipe:
            witness = await join(server, "den", want="codes", send="none")
            speaks = call_of(pipe.url, tiny_model, tmp_path / "said.wav", None)
            hears = call_of(pipe.url, tiny_model, None, tmp_path / "heard.wav")
            running = [asyncio.create_task(call.run()) for call in (speaks, hears)]
            await until(lambda: len(witness.heard) == 1)
            (speaker,) = witness.heard
            line = witness.heard[speaker]

            def heard_on(frames: int) -> bool:
                here = hears.connections[-1].receiver.stats() if hears.connections else {}
                return line.frames > frames and speaker in here and here[speaker].frames_played > frames

            await until(lambda: heard_on(40))
            sender, before = speaks.talker.sender, line.frames
            pipe.cut()
            await until(lambda: (speaks.resumes, hears.resumes) == (1, 1))
            await until(lambda: heard_on(before + 150))
            assert speaks.talker.sender is sender
            for call in (speaks, hears):
                call.leave()
            await asyncio.gather(*running)
            heard = hears.connections[-1].receiver.stats()[speaker]
            assert len(speaks.connections) == len(hears.connections) == 1
            assert [left.id for left in witness.of(PeerLeft)][:1] != []  # when they had left, and not before
            assert line.missing == 0  # what was lost on the way was sent again
            assert heard.frames_missing == 0
            assert any(packet.n_q == 2 for packet in line.packets)
            await witness.leave()


async def test_a_call_whose_seat_is_gone_takes_a_new_one(tmp_path: Path, tiny_model: Model) -> None:
    soundfile.write(tmp_path / "said.wav", np.zeros(RATE, np.float32), RATE)
    with running_server(tiny_model, resume_s=0.0) as server:
        async with pipe_to(server.url) as pipe:
            witness = await join(server, "den", send="none")
            call = call_of(pipe.url, tiny_model, tmp_path / "said.wav", None)
            running = asyncio.create_task(call.run())
            await until(lambda: len(witness.heard) == 1)
            pipe.cut()
            await until(lambda: len(witness.heard) == 2)
            assert (call.reconnects, call.resumes, len(call.connections)) == (1, 0, 2)
            call.leave()
            await running
            await witness.leave()


async def test_the_second_of_two_servers_is_called_where_the_first_is_dead(tmp_path: Path, tiny_model: Model) -> None:
    with running_server(tiny_model) as server:
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as gone:
            dead = f"ws://127.0.0.1:{gone.sockets[0].getsockname()[1]}"
        witness = await join(server, "den", send="none")
        call = call_of(f"{dead},{server.url}", tiny_model, None, tmp_path / "heard.wav")
        running = asyncio.create_task(call.run())
        await until(lambda: bool(witness.of(PeerJoined)))
        call.leave()
        await running
        await witness.leave()
