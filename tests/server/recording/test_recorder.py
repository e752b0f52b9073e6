"""Rooms that are recorded by a real server while real peers talk in them."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from earshot.codec.bitstream import unpack
from earshot.codec.config import LITE_24KHZ
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.protocol.messages import Mute, Record, Recording, SetRate, WindowModel
from earshot.protocol.packet import Packet, encode_codes_up
from earshot.recording.description import describe, read_items
from earshot.recording.format import Event, Header
from earshot.server.recording import recorder, writer
from earshot.server.recording.recorder import Recorder
from earshot.server.settings import Settings
from tests.peers import FRAME_S, HOP, TestPeer, bystanders, join, noise, real_time, running_server, until
from tests.peers import tiny_model as make_model
from tests.recordings import codes_of


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model()


def random_codes(frames: int, seed: int, n_q: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1024, (n_q, frames))


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def recorded(folder: Path, count: int = 1) -> list[Path]:
    """The files of recordings, once there are so many and all have ended."""

    def ended(file: Path) -> bool:
        return file.stat().st_size > 0 and describe(file).ended is not None  # one just made is empty

    await until(lambda: len(files := files_in(folder)) == count and all(ended(file) for file in files))
    return files_in(folder)


def heard_codes(listener: TestPeer, speaker: TestPeer) -> dict[int, np.ndarray]:
    """Timestamp -> codes of a frame, of all that a listener got of a speaker."""
    found = {}
    for packet in listener.heard[speaker.id].packets:
        assert isinstance(packet, Packet)
        codes = unpack(packet.payload, packet.n_q, packet.frames)
        found |= {packet.timestamp + index * HOP: codes[:, index] for index in range(packet.frames)}
    return found


def assert_same(file: Path, speaker: TestPeer, expected: dict[int, np.ndarray]) -> None:
    found = codes_of((item for item, _ in read_items(file)), speaker.id)
    assert sorted(found) == sorted(expected)
    for timestamp, codes in expected.items():
        np.testing.assert_array_equal(found[timestamp], codes)


async def speak_pcm(peer: TestPeer, pcm: np.ndarray) -> None:
    async for index in real_time(pcm.size // HOP, FRAME_S):
        await peer.send_pcm(pcm[index * HOP : (index + 1) * HOP], index, index * HOP)


async def test_everything_said_is_on_disk_exactly_as_it_came(model: Model, tmp_path: Path) -> None:
    """Codes and PCM from speakers, a listener of codes and one of PCM, a new rate, a mute, one who
    leaves early."""
    with running_server(model, record_to=tmp_path, record_rooms="other, den*") as server:
        ada = await join(server, "den-1", name="Ada")
        assert ada.welcome.recording
        ben = await join(server, "den-1", name="Ben", send="pcm", send_kbps=3.0)
        ear = await join(server, "den-1", send="none")
        pcm_ear = await join(server, "den-1", send="none", want="pcm")
        assert ear.welcome.recording

        async def first() -> None:
            await ada.talk(random_codes(40, 1))
            await ada.say(Mute(muted=True))
            await ada.talk(random_codes(10, 2))
            await ada.say(Mute(muted=False))
            await ada.talk(random_codes(40, 3, n_q=2))

        async def second() -> None:
            await speak_pcm(ben, noise(30, 4))
            await ben.say(SetRate(send_kbps=6.0))

        await asyncio.gather(first(), second())
        await until(lambda: ear.heard[ada.id].frames == 80 and ear.heard[ben.id].frames == 30)
        await ben.leave()
        expected = {peer.id: heard_codes(ear, peer) for peer in (ada, ben)}
        assert server.get("/stats")["recordings"]["active"] == 1
        for peer in (ada, ear, pcm_ear):
            await peer.leave()
        (file,) = await recorded(tmp_path)
        assert_same(file, ada, expected[ada.id])
        assert_same(file, ben, expected[ben.id])
        await until(lambda: not server.get("/stats")["recordings"]["bytes_waiting"])
        stats = server.get("/stats")["recordings"]
        assert stats == {
            **{
                "active": 0,
                "not_recorded": 0,
                "alarm": None,
                "begun": 1,
                "given_up": 0,
                "frames_lost": 0,
                "bytes_waiting": 0,
            },
            "bytes_written": file.stat().st_size,
            "slowest_write_ms": stats["slowest_write_ms"],
        }
        assert "den-1" not in str(server.get("/stats"))
    assert file.name.startswith("den-1-20")
    found = describe(file)
    assert (found.header.digest, found.header.room, found.ended) == (model.digest, "den-1", "everyone had left")
    assert [speaker.name for speaker in found.speakers.values()] == ["Ada", "Ben", "", ""]
    assert found.speakers[ben.id].left_s is not None
    muted = [item.type for item, _ in read_items(file) if isinstance(item, Event) and "muted" in item.type]
    assert muted == ["muted", "unmuted"]


async def test_frames_are_where_they_came_in_time(model: Model, tmp_path: Path) -> None:
    """Two speakers who begin 1 s apart: the recording has them as far from each other as a listener
    hears them."""
    with running_server(model, record_to=tmp_path, record_rooms="*") as server:
        ada, ben, ear = await join(server, "den"), await join(server, "den"), await join(server, "den", send="none")
        loop = asyncio.get_running_loop()
        came: dict[int, float] = {}
        pause = 0.0

        async def watch() -> None:
            nonlocal pause
            before = loop.time()
            while len(came) < 2:
                now = loop.time()
                pause, before = max(pause, now - before), now
                for peer in (ada, ben):
                    if ear.heard[peer.id].packets:
                        came.setdefault(peer.id, now)
                await asyncio.sleep(0.001)

        watching = asyncio.create_task(watch())
        talking = asyncio.create_task(ada.talk(random_codes(120, 1)))
        await asyncio.sleep(1)
        await ben.talk(random_codes(40, 2))
        await asyncio.gather(talking, watching)
        for peer in (ada, ben, ear):
            await peer.leave()
        (file,) = await recorded(tmp_path)
    found = describe(file)
    first = {peer.id: found.speakers[peer.id].first_s or 0 for peer in (ada, ben)}
    apart = (first[ben.id] - first[ada.id]) - (came[ben.id] - came[ada.id])
    assert abs(apart) < 0.2 + pause  # of a busy machine; that places are exact is tested in made-up time


async def test_nobody_is_recorded_unless_somebody_said_so(model: Model, tmp_path: Path) -> None:
    for settings in ({}, {"record_to": tmp_path}, {"record_to": tmp_path, "record_rooms": "den"}):
        with running_server(model, **settings) as server:
            peer = await join(server, "kitchen")
            assert not peer.welcome.recording
            await peer.say(Record(on=True))
            await until(lambda peer=peer: peer.of(Recording))
            (answer,) = peer.of(Recording)
            assert answer == Recording(on=False, reason="this server does not record because somebody asks")
            await peer.talk(random_codes(5, 1))
            await peer.leave()
    assert not files_in(tmp_path)


async def test_whoever_asks_begins_it_and_all_are_told(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "AGAIN_US", 3_600_000_000)
    with running_server(model, record_to=tmp_path, record_on_request=True, record_rooms="always") as server:
        ada, ben = await join(server, "den", name="Ada"), await join(server, "den", name="Ben")
        before = random_codes(20, 1)
        await ada.talk(before)
        await ben.say(Record(on=True))
        await until(lambda: ada.of(Recording) and ben.of(Recording))
        assert ada.of(Recording) == ben.of(Recording) == [Recording(on=True, by=ben.id)]
        late = await join(server, "den")
        assert late.welcome.recording
        await ada.say(Record(on=True))
        await until(lambda: len(ada.of(Recording)) == 2)
        assert ada.of(Recording)[1] == Recording(on=True)
        during = random_codes(20, 2)
        await ada.talk(during)
        await until(lambda: late.heard[ada.id].frames == 20)
        await ada.say(Record(on=False))
        await until(lambda: late.of(Recording))
        assert late.of(Recording) == [Recording(on=False, by=ada.id, reason="Ada ended it")]
        await ada.talk(random_codes(20, 3))
        (file,) = await recorded(tmp_path)
        assert_same(file, ada, {(20 + index) * HOP: during[:, index] for index in range(20)})
        await late.say(Record(on=True))
        await until(lambda: len(late.of(Recording)) == 2)
        assert late.of(Recording)[1].reason == "a recording began just now; wait 3600 s"
        monkeypatch.setattr(recorder, "AGAIN_US", 0)
        await late.say(Record(on=True))
        await until(lambda: len(late.of(Recording)) == 3)
        await late.talk(random_codes(5, 4))
        fixed = await join(server, "always")
        await fixed.say(Record(on=False))
        await until(lambda: fixed.of(Recording))
        assert fixed.of(Recording) == [Recording(on=True, reason="this room is always recorded")]
        for peer in (ada, ben, late, fixed):
            await peer.leave()
        assert len(await recorded(tmp_path, 3)) == 3
    assert sorted(str(describe(file).ended) for file in files_in(tmp_path)) == [
        "Ada ended it",
        "everyone had left",
        "everyone had left",
    ]


async def test_less_can_be_kept_than_came(model: Model, tmp_path: Path) -> None:
    with running_server(model, record_to=tmp_path, record_rooms="*", record_max_kbps=1.6) as server:
        ada = await join(server, "den")
        codes = random_codes(30, 1)
        await ada.talk(codes)
        await ada.leave()
        (file,) = await recorded(tmp_path)
    assert describe(file).header.max_kbps == 1.6
    assert_same(file, ada, {index * HOP: codes[:2, index] for index in range(30)})


async def test_a_disk_that_stands_still_is_not_felt(model: Model, tmp_path: Path) -> None:
    """Each write takes longer than a flush, and little may wait: frames are lost to the recording,
    none to the room."""
    go = threading.Event()

    def write(handle: int, data: memoryview) -> int:
        go.wait(30)
        return os.write(handle, data)

    with running_server(model, record_to=tmp_path, record_rooms="*", record_backlog_mb=0.003) as server:
        server.hub.recorder.writer._write_bytes = write
        async with bystanders(server, "den") as (ada, _):
            await until(lambda: server.get("/stats")["recordings"]["frames_lost"] > 50)
            go.set()
            before = server.get("/stats")["recordings"]["bytes_written"]
            await until(lambda: server.get("/stats")["recordings"]["bytes_written"] > before)
            assert not ada.of(Recording)
        (file,) = await recorded(tmp_path)
    found = describe(file)
    assert found.frames_lost > 50
    assert found.damage_count == 0
    assert "the server's disk was too slow" in "\n".join(found.remarks())


async def test_a_full_disk_ends_the_recording_and_not_the_call(
    model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = threading.Event()

    def write(handle: int, data: memoryview) -> int:
        if full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(handle, data)

    with running_server(model, record_to=tmp_path, record_rooms="*") as server:
        server.hub.recorder.writer._write_bytes = write
        async with bystanders(server, "den") as (ada, ben):
            await until(lambda: server.hub.recorder.writer.bytes_written > 2000)  # both are in it
            full.set()
            await until(lambda: ada.of(Recording) and ben.of(Recording))
            told = Recording(on=False, reason="it could not be written: No space left on device")
            assert ada.of(Recording) == ben.of(Recording) == [told]
            late = await join(server, "den")
            assert not late.welcome.recording
            await until(lambda: late.of(Recording))
            assert late.of(Recording) == [told]
            await late.leave()
            with pytest.raises(urllib.error.HTTPError) as refusal:
                server.get("/healthz")
            assert refusal.value.code == 503
            assert json.load(refusal.value) == {"status": f"recordings: {told.reason}"}
            refusal.value.close()
            recordings = server.get("/stats")["recordings"]
            assert (recordings["given_up"], recordings["not_recorded"]) == (1, 1)
    assert "it could not be written: No space left on device" in caplog.text
    (file,) = files_in(tmp_path)
    found = describe(file)
    assert found.damage_count == 0
    assert found.speakers[1].frames > 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
async def test_a_recording_resumes_when_the_disk_can_be_written_again(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(recorder, "AGAIN_US", 0)
    monkeypatch.setattr(writer, "PROBE_S", 0.2)
    broken = threading.Event()

    def write(handle: int, data: memoryview) -> int:
        if broken.is_set():
            raise OSError(code, os.strerror(code))
        return os.write(handle, data)

    with running_server(model, record_to=tmp_path, record_rooms="*") as server:
        server.hub.recorder.writer._write_bytes = write
        ada = await join(server, "den", name="Ada")
        await ada.talk(random_codes(5, 1))
        await until(lambda: server.hub.recorder.writer.bytes_written > 100)
        broken.set()
        await ada.talk(random_codes(5, 2))
        await until(lambda: ada.of(Recording))
        assert ada.of(Recording) == [Recording(on=False, reason=f"it could not be written: {os.strerror(code)}")]
        broken.clear()
        await until(lambda: len(ada.of(Recording)) == 2)
        assert ada.of(Recording)[1] == Recording(on=True)
        assert server.get("/healthz") == {"status": "ok"}
        after = random_codes(5, 3)
        await ada.talk(after)
        await ada.leave()
        await until(lambda: not server.get("/stats")["recordings"]["active"])
    first, second = sorted(files_in(tmp_path), key=lambda file: describe(file).ended is not None)
    assert (describe(first).ended, describe(second).ended) == (None, "everyone had left")
    assert_same(second, ada, {(10 + index) * HOP: after[:, index] for index in range(5)})


async def test_a_dead_recorder_is_said_and_shown(model: Model, tmp_path: Path) -> None:
    with running_server(model, record_to=tmp_path, record_rooms="*") as server:

        def die(*_: object) -> None:
            raise RuntimeError("a fault of the recorder itself")

        server.hub.recorder.writer._do = die
        ada = await join(server, "den")
        await until(lambda: ada.of(Recording))
        assert ada.of(Recording) == [Recording(on=False, reason="the recorder of this server has ended")]
        with pytest.raises(urllib.error.HTTPError) as refusal:
            server.get("/healthz")
        assert json.load(refusal.value) == {"status": "the recorder has ended"}
        refusal.value.close()
        assert server.get("/stats")["recordings"]["not_recorded"] == 1
        await ada.leave()


async def test_that_nobody_hands_recordings_to_the_disk_any_more_is_shown(model: Model, tmp_path: Path) -> None:
    with running_server(model, record_to=tmp_path, record_rooms="*") as server:
        server.call_soon(server.hub.recorder._flushing.cancel)
        await until(lambda: server.hub.recorder.faults())
        with pytest.raises(urllib.error.HTTPError) as refusal:
            server.get("/healthz")
        assert json.load(refusal.value) == {"status": "what hands recordings to the disk has ended"}
        refusal.value.close()


async def test_windows_of_another_model_are_not_recorded_and_it_says_so(model: Model, tmp_path: Path) -> None:
    music = WindowModel(
        **{"name": "music", "digest": "f" * 16, "sample_rate": 48_000, "channels": 2, "hop_length": 320},
        **{"n_codebooks": 16, "bandwidths": [3.0], "window_frames": 150, "window_stride": 47_520},
    )
    with running_server(model, record_to=tmp_path, record_rooms="*") as server:
        player = await join(server, "hall", name="DJ", send_model=music, send_kbps=3.0)
        ada = await join(server, "hall", name="Ada")
        await player.socket.send(encode_codes_up(Packet(2, 150, 0, 0, bytes(375), scale=1.0)))
        await ada.talk(random_codes(10, 1))
        assert (await player.stats()).frames_received == 150
        for peer in (player, ada):
            await peer.leave()
        (file,) = await recorded(tmp_path)
    found = describe(file)
    assert (found.speakers[player.id].frames, found.speakers[ada.id].frames) == (0, 10)
    assert found.speakers[player.id].joined_s == pytest.approx(0, abs=0.05)  # it begins with the first who comes
    assert any("DJ: " in said and "what music makes is not recorded" in said for said in found.remarks())


async def test_a_shutdown_ends_recordings_whole(model: Model, tmp_path: Path) -> None:
    with running_server(model, record_to=tmp_path, record_rooms="*") as server:
        ada = await join(server, "den")
        await ada.talk(random_codes(10, 1))
        uplink = server.hub.rooms["den"].room.peers[ada.id].uplink
        await until(lambda: uplink.frames_received == 10)
    (file,) = files_in(tmp_path)
    found = describe(file)
    assert found.ended is not None
    assert found.speakers[ada.id].frames == 10
    await ada.leave()


async def test_a_recording_has_a_longest_time(model: Model, tmp_path: Path) -> None:
    with running_server(model, record_to=tmp_path, record_rooms="*", record_max_hours=0.5 / 3600) as server:
        ada = await join(server, "den")
        await ada.talk(random_codes(10, 1))
        await until(lambda: ada.of(Recording))
        assert "no recording may be longer" in ada.of(Recording)[0].reason
        await recorded(tmp_path)
        await ada.leave()


async def test_so_many_rooms_at_once(model: Model, tmp_path: Path) -> None:
    with running_server(model, record_to=tmp_path, record_on_request=True, record_max_at_once=1) as server:
        ada, ben = await join(server, "den"), await join(server, "kitchen")
        await ada.say(Record(on=True))
        await until(lambda: ada.of(Recording))
        await ben.say(Record(on=True))
        await until(lambda: ben.of(Recording))
        assert ben.of(Recording) == [Recording(on=False, reason="this server records as many rooms as it may")]
        await ada.leave()
        await ben.leave()


async def test_an_always_recorded_room_is_recorded_as_soon_as_others_end(
    model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stranger holds all recordings that there may be: the room and the operator learn it, and
    once the stranger has left the room is recorded."""
    with running_server(model, record_to=tmp_path, record_rooms="*", record_max_at_once=1) as server:
        stranger = await join(server, "held")
        assert stranger.welcome.recording
        ada = await join(server, "den")
        ben = await join(server, "den")
        reason = "this server records as many rooms as it may"
        for peer in (ada, ben):
            assert not peer.welcome.recording
            await until(lambda peer=peer: peer.of(Recording))
            assert peer.of(Recording) == [Recording(on=False, reason=reason)]
        alarm = f"1 room that should be recorded is not: {reason}"
        assert server.get("/healthz") == {"status": "ok", "alarm": alarm}
        stats = server.get("/stats")["recordings"]
        assert (stats["active"], stats["not_recorded"], stats["alarm"]) == (1, 1, alarm)
        await until(lambda: alarm in caplog.text)
        await stranger.leave()
        await until(lambda: len(ada.of(Recording)) == len(ben.of(Recording)) == 2)
        assert ada.of(Recording)[1] == ben.of(Recording)[1] == Recording(on=True)
        assert server.get("/healthz") == {"status": "ok"}
        await ada.talk(random_codes(5, 1))
        for peer in (ada, ben):
            await peer.leave()
        files = await recorded(tmp_path, 2)
        (den,) = [file for file in files if file.name.startswith("den")]
        assert [speaker.frames for speaker in describe(den).speakers.values()] == [5, 0]


async def test_rooms_that_begin_at_once_are_all_recorded_in_the_end(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "AGAIN_US", 3_600_000_000)
    with running_server(model, record_to=tmp_path, record_rooms="always*", record_max_at_once=3) as server:
        for number in range(3):
            await (await join(server, f"always-{number}")).leave()
        ada = await join(server, "always-ada")
        await until(lambda: ada.of(Recording))
        assert ada.of(Recording)[0].reason == "too many recordings began just now; wait 3600 s"
        monkeypatch.setattr(recorder, "AGAIN_US", 0)
        await until(lambda: len(ada.of(Recording)) == 2)
        assert ada.of(Recording)[1].on
        await ada.leave()
        await until(lambda: not server.get("/stats")["recordings"]["active"])
        assert server.get("/stats")["recordings"]["not_recorded"] == 0


async def test_a_room_that_waits_for_its_recording_and_empties_waits_no_more(model: Model, tmp_path: Path) -> None:
    with running_server(model, record_to=tmp_path, record_rooms="*", record_max_at_once=1) as server:
        stranger, ada = await join(server, "held"), await join(server, "den")
        assert server.get("/stats")["recordings"]["not_recorded"] == 1
        await ada.leave()
        await until(lambda: "den" not in server.hub.rooms)
        assert server.get("/stats")["recordings"]["not_recorded"] == 0
        await stranger.leave()


async def test_a_recording_that_is_asked_for_takes_no_place_of_a_room_that_waits(model: Model, tmp_path: Path) -> None:
    settings = {"record_rooms": "always*", "record_on_request": True, "record_max_at_once": 1}
    with running_server(model, record_to=tmp_path, **settings) as server:
        first, second, ada = [await join(server, room) for room in ("always-1", "always-2", "den")]
        await ada.say(Record(on=True))
        await until(lambda: ada.of(Recording))
        assert "come first" in ada.of(Recording)[0].reason
        for peer in (first, second, ada):
            await peer.leave()


async def test_many_short_recordings_make_few_files(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def record_and_leave(room: str) -> Recording:
        ada = await join(server, room)
        await ada.say(Record(on=True))
        await until(lambda: ada.of(Recording))
        await ada.leave()
        return ada.of(Recording)[0]

    monkeypatch.setattr(recorder, "AGAIN_US", 3_600_000_000)
    with running_server(model, record_to=tmp_path, record_on_request=True, record_max_at_once=2) as server:
        answers = [await record_and_leave(room) for room in ("den", "kitchen", "hall", "attic")]
        assert [answer.on for answer in answers] == [True, True, False, False]
        assert answers[3].reason == "too many recordings began just now; wait 3600 s"
        assert len(await recorded(tmp_path, 2)) == 2
        monkeypatch.setattr(recorder, "AGAIN_US", 0)
        assert (await record_and_leave("den")).on
        assert len(await recorded(tmp_path, 3)) == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"record_rooms": "den"}, "name a folder with --record-to"),
        ({"record_rooms": "den", "record_to": "/proc/nowhere"}, "recordings cannot go to /proc/nowhere"),
        ({"record_on_request": True, "record_to": ".", "record_max_kbps": 0.5}, "less than one codebook"),
    ],
)
def test_settings_that_cannot_be_followed_are_said(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Recorder(LITE_24KHZ, "0" * 16, Settings(**settings), lambda: 0)


def test_a_file_knows_its_room_and_its_model(tmp_path: Path) -> None:
    made = Recorder(LITE_24KHZ, "0" * 16, Settings(record_to=tmp_path, record_rooms="a*,b"), lambda: 0)
    assert [made.always(room) for room in ("a", "abc", "b", "bc", "A")] == [True, True, True, False, False]
    header = made.open("abc", lambda file, reason: None).header
    assert isinstance(header, Header)
    assert (header.room, header.model, header.digest) == ("abc", "lite_24khz", "0" * 16)
