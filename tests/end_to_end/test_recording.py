"""`earshot serve --record`, killed in the middle, and `earshot export`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from earshot.codec.bitstream import unpack
from earshot.codec.model.model import Model
from earshot.codec.weights.load import save_native
from earshot.lab.loadtest.run import stats
from earshot.protocol.messages import Record, Recording
from earshot.protocol.packet import Packet
from earshot.recording.alignment import Aligner
from earshot.recording.description import describe, read_items
from earshot.recording.format import Spoken
from tests.end_to_end.earshot_process import EarshotCall, EarshotServer, run_earshot
from tests.peers import FRAME_S, HOP, RunningServer, TestPeer, join, noise, real_time, running_server, until
from tests.peers import tiny_model as make_model
from tests.recordings import codes_of

RATE = 24_000
TALK_S = 4.0
LAST_S = 1.0
"""What a killed server may lose, on a machine that holds nobody up."""


@dataclass
class Elsewhere:
    """A server in a process of its own, for tests.peers.join."""

    url: str
    model: Model

    def room(self, name: str) -> str:
        return f"{self.url}/v1/rooms/{name}"


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model()


@pytest.fixture
def model_file(model: Model, tmp_path: Path) -> Path:
    save_native(model.network, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


class Clock:
    """When each frame of a speaker arrived at a listener, by the time stamps of the speaker."""

    def __init__(self, listener: TestPeer, speaker: TestPeer) -> None:
        self.frames: dict[int, tuple[float, np.ndarray]] = {}
        self._packets, self._done = listener.heard[speaker.id].packets, 0

    def look(self, now: float) -> None:
        for packet in self._packets[self._done :]:
            assert isinstance(packet, Packet)
            codes = unpack(packet.payload, packet.n_q, packet.frames)
            for index in range(packet.frames):
                self.frames[packet.timestamp + index * HOP] = now, codes[:, index]
        self._done = len(self._packets)


async def test_a_killed_server_loses_at_most_the_last_second(model: Model, model_file: Path, tmp_path: Path) -> None:
    """Ada sends codes, Ben, who comes 1.3 s later, PCM. Each hears the other; the recording has the
    same codes, up to the last second, and both as far apart in time as they were heard."""
    folder = tmp_path / "recordings"
    arguments = "--record", "d*", "--record-to", folder
    loop = asyncio.get_running_loop()
    with EarshotServer(tmp_path, model_file, 0, *arguments) as server:
        there: Any = Elsewhere(server.url, model)
        ada, ben = await join(there, "den", name="Ada"), await join(there, "den", name="Ben", send="pcm")
        assert ada.welcome.recording
        clocks = {ada.id: Clock(ben, ada), ben.id: Clock(ada, ben)}
        codes = np.random.default_rng(1).integers(0, 1024, (8, 1000))
        pcm = noise(1000, 2)

        held = 0.0

        async def watch() -> None:
            nonlocal held
            before = loop.time()
            while True:
                now = loop.time()
                held, before = max(held, now - before), now
                for clock in clocks.values():
                    clock.look(now)
                await asyncio.sleep(0.002)

        async def speak() -> None:
            await asyncio.sleep(1.3)
            async for index in real_time(1000, FRAME_S):
                await ben.send_pcm(pcm[index * HOP : (index + 1) * HOP], index, index * HOP)

        work = [asyncio.create_task(each) for each in (watch(), ada.talk(codes), speak())]
        await asyncio.sleep(TALK_S)
        recordings = (await asyncio.to_thread(stats, server.url))["recordings"]
        killed = loop.time()
        server.kill()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    last_s = LAST_S + held + recordings["slowest_write_ms"] / 1000
    (file,) = files_in(folder)
    found = describe(file)
    assert found.ended is None
    aligned = places(file, model)
    for speaker, clock in clocks.items():
        saved = codes_of((item for item, _ in read_items(file)), speaker)
        assert len(clock.frames) > 100
        early = [timestamp for timestamp, (came, _) in clock.frames.items() if came < killed - last_s]
        assert set(early) <= set(saved)
        for timestamp in set(saved) & set(clock.frames):
            np.testing.assert_array_equal(saved[timestamp], clock.frames[timestamp][1])
        # The fastest of many says when the speaker began, on either clock.
        began = min(came - timestamp / RATE for timestamp, (came, _) in clock.frames.items())
        clock.frames = {0: (began - aligned[speaker] / RATE, codes)}
    offsets = [clock.frames[0][0] for clock in clocks.values()]
    assert abs(offsets[0] - offsets[1]) < FRAME_S

    done = run_earshot(
        *("export", file, "--mix", tmp_path / "mix.flac", "--per-speaker", tmp_path / "each", "--model", model_file)
    )
    assert done.returncode == 0, done.stderr
    assert "it has no end: the server was killed" in done.stdout
    tracks = {path.name: soundfile.read(path, dtype="float32")[0] for path in files_in(tmp_path / "each")}
    assert sorted(tracks) == ["001-Ada.flac", "002-Ben.flac"]
    mix, rate = soundfile.read(tmp_path / "mix.flac", dtype="float32")
    assert rate == RATE
    assert {track.size for track in tracks.values()} == {mix.size}
    assert mix.size > (TALK_S - last_s - 0.5) * RATE
    silent = round(aligned[ben.id]) - HOP
    assert not tracks["002-Ben.flac"][:silent].any()
    assert np.abs(tracks["002-Ben.flac"][silent : silent + RATE]).max() > 0


def places(file: Path, model: Model) -> dict[int, float]:
    """Where the sample with timestamp 0 of each speaker is in the recording."""
    aligners: dict[int, Aligner] = {}
    for item, _ in read_items(file):
        if isinstance(item, Spoken):
            aligners.setdefault(item.speaker, Aligner(RATE, model.hop_length)).add(item)
    firsts = {speaker: next(aligner.take(None)) for speaker, aligner in aligners.items()}
    return {speaker: aligned.position - aligned.record.timestamp for speaker, aligned in firsts.items()}


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_a_call_shows_that_it_is_recorded(model: Model, model_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    with running_server(model, record_on_request=True, record_to=folder) as server:
        arguments = "den", "--server", server.url, "--model", model_file, "--input", "none", "--output", "none"
        with EarshotCall(*arguments, "--name", "ear", report=tmp_path / "ear.json") as ear:
            ear.wait_for(lambda status: status["seconds"] > 0 and not status["recording"])
            asyncio.run(ask(server))
            ear.wait_for(lambda status: status["recording"] and status["recording_said"] == "Ada began it")
            ear.leave()
    (file,) = files_in(folder)
    assert describe(file).ended


async def ask(server: RunningServer) -> None:
    peer = await join(server, "den", name="Ada")
    await peer.say(Record(on=True))
    await until(lambda: peer.of(Recording))
    await peer.leave()


def test_export_wants_to_know_what_to_make(tmp_path: Path) -> None:
    done = run_earshot("export", tmp_path / "nowhere")
    assert done.returncode == 1
    assert "--mix OUT.flac" in done.stderr
