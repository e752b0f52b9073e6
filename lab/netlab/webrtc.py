"""One end of a WebRTC call by aiortc: a mouth that speaks a file, or an ear that writes what it
hears. Each is a process of its own, in its namespace; they find each other by two files.

python -m earshot.lab.netlab.webrtc mouth FOLDER SPOKEN KBPS
python -m earshot.lab.netlab.webrtc ear FOLDER HEARD

The ear plays each frame when it comes, or behind the one before it, as a loudspeaker with a queue
does. aiortc has a jitter buffer and no play-out that catches up."""

from __future__ import annotations

import asyncio
import fractions
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from earshot.codec.pcm import from_s16, to_s16
from earshot.lab.netlab.profiles import LEAD_S

RATE, FRAME = 48_000, 960
KEPT_RATE = 24_000
POLL_S, END_S = 0.05, 3.0


def now_us() -> int:
    """Returns the time of the clock that all processes of this machine share."""
    return time.monotonic_ns() // 1000


async def _read(path: Path) -> Any:
    while (told := _told(path)) is None:  # noqa: ASYNC110 -- another process writes it
        await asyncio.sleep(POLL_S)
    return told


def _told(path: Path) -> Any:
    """Returns what another process has written to a file, None while it has not."""
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def _write(path: Path, value: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value), "utf-8")
    part.rename(path)


async def _connect(connection: Any, folder: Path, offers: bool) -> None:
    from aiortc import RTCSessionDescription

    async def tell(name: str, description: Any) -> None:
        await connection.setLocalDescription(description)
        said = connection.localDescription
        _write(folder / name, {"sdp": said.sdp, "type": said.type})

    if offers:
        await tell("offer.json", await connection.createOffer())
        await connection.setRemoteDescription(RTCSessionDescription(**await _read(folder / "answer.json")))
    else:
        await connection.setRemoteDescription(RTCSessionDescription(**await _read(folder / "offer.json")))
        await tell("answer.json", await connection.createAnswer())


async def mouth(folder: Path, spoken: Path, kbps: float) -> None:
    """Speaks a file in real time, once the connection stands. It ends in its time also where the
    connection failed meanwhile, as it does over 16 kbps."""
    from aiortc import MediaStreamTrack, RTCPeerConnection
    from aiortc.codecs import opus
    from av import AudioFrame

    make = opus.OpusEncoder.__init__

    def made(encoder: Any) -> None:
        make(encoder)
        encoder.codec.bit_rate = round(kbps * 1000)

    opus.OpusEncoder.__init__ = made
    pcm, rate = soundfile.read(spoken, dtype="float32")
    pcm = soxr.resample(pcm, rate, RATE)
    connected = asyncio.Event()

    class Voice(MediaStreamTrack):  # type: ignore[misc]
        kind = "audio"
        _at = 0
        _began_s: float | None = None

        async def recv(self) -> Any:
            await connected.wait()
            if self._began_s is None:
                self._began_s = time.monotonic()
                _write(folder / "mouth.json", {"spoken_start_us": round(self._began_s * 1e6)})
            due_s = self._began_s + (self._at + FRAME) / RATE
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            samples = np.zeros(FRAME, np.float32)
            part = pcm[self._at : self._at + FRAME]
            samples[: part.size] = part
            frame = AudioFrame.from_ndarray(np.frombuffer(to_s16(samples), "<i2")[None], "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, self._at, fractions.Fraction(1, RATE)
            self._at += FRAME
            return frame

    connection = RTCPeerConnection()
    connection.addTrack(Voice())

    @connection.on("connectionstatechange")  # type: ignore[untyped-decorator]
    def _changed() -> None:
        if connection.connectionState == "connected":
            connected.set()

    await _connect(connection, folder, offers=True)
    await connected.wait()
    await asyncio.sleep(pcm.size / RATE + END_S)
    _write(folder / "over.json", {})
    await connection.close()


async def ear(folder: Path, heard: Path) -> None:
    """Writes what comes as it would be heard, until the mouth has ended."""
    from aiortc import RTCPeerConnection
    from aiortc.mediastreams import MediaStreamError

    connection = RTCPeerConnection()
    played: list[np.ndarray] = []
    told = {"heard_start_us": 0, "underruns": 0, "underrun_ms": 0.0}

    async def listen(track: Any) -> None:
        position = 0
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            now = now_us()
            if not told["heard_start_us"]:
                told["heard_start_us"] = now
            pcm = from_s16(frame.to_ndarray().astype("<i2").tobytes()).reshape(-1, 2).mean(axis=1)
            behind = round((now - told["heard_start_us"]) * RATE / 1e6) - position
            if behind > 0:
                told["underruns"] += now - told["heard_start_us"] > LEAD_S * 1e6
                told["underrun_ms"] += behind * 1000 / RATE
                played.append(np.zeros(behind, np.float32))
                position += behind
            played.append(pcm.astype(np.float32))
            position += pcm.size

    tasks: list[asyncio.Task[None]] = []

    @connection.on("track")  # type: ignore[untyped-decorator]
    def _track(track: Any) -> None:
        tasks.append(asyncio.create_task(listen(track)))

    await _connect(connection, folder, offers=False)
    await _read(folder / "over.json")
    await asyncio.sleep(END_S)
    for task in tasks:
        task.cancel()
    pcm = np.concatenate(played) if played else np.zeros(0, np.float32)
    soundfile.write(heard, soxr.resample(pcm, RATE, KEPT_RATE), KEPT_RATE)
    _write(folder / "ear.json", told)
    await connection.close()


def main(role: str, folder: str, file: str, kbps: str = "12") -> None:
    """Runs one end."""
    asyncio.run(mouth(Path(folder), Path(file), float(kbps)) if role == "mouth" else ear(Path(folder), Path(file)))


if __name__ == "__main__":
    main(*sys.argv[1:])
