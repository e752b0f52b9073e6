"""`earshot call` from one virtual sound device to another carries speech both ways, and `earshot devices`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from client.measure import compare
from codec.pcm import Pcm
from tests.end_to_end.earshot_process import PATIENCE_S, EarshotCall, EarshotServer, hears, run_earshot
from tests.end_to_end.soundserver import SoundServer

pytestmark = pytest.mark.timeout(300)

VOICES = Path(__file__).parents[2] / "client" / "voices"
MODEL = os.environ.get("EARSHOT_TEST_MODEL", "default")
SPOKEN_S = 8
LIKE = 0.4
"""Other speech stays under 0.3 (client/measure.py)."""
ATTEMPTS = 3
"""Sound is real time: a machine that is busy with other tests may starve one run."""


@pytest.fixture(scope="module")
def sound() -> Iterator[SoundServer]:
    with SoundServer() as running:
        yield running


def likeness(spoken: Pcm, heard: Pcm) -> float:
    """How like the heard speech is, 0..1, if it begins within the first four seconds of the recording."""
    # `compare` looks for delays of up to two seconds.
    return max(compare(spoken, heard[start:]).similarity for start in (0, 48_000))


def converse(folder: Path, sound: SoundServer, spoken: dict[str, Pcm]) -> tuple[dict[str, Pcm], dict[str, Any]]:
    """Speaks into both microphones at once; what came out of each speaker, and the reports of both calls."""
    for side, pcm in spoken.items():
        soundfile.write(folder / f"{side}.wav", pcm, 24_000)

    def call(side: str, url: str, uplink: str) -> EarshotCall:
        arguments = ["den", "--server", url, "--model", MODEL, "--name", side, "--uplink", uplink]
        return EarshotCall(*arguments, report=folder / f"{side}.json", env=sound.device_env(side))

    with (
        EarshotServer(folder, MODEL) as server,
        call("a", server.url, "pcm") as a,
        call("b", server.url, "codes") as b,
    ):
        a.wait_for(hears("b"))
        b.wait_for(hears("a"))
        recorders = [sound.record(side, folder / f"heard-{side}.wav") for side in "ab"]
        time.sleep(0.5)
        players = [sound.speak(side, folder / f"{side}.wav") for side in "ab"]
        for player in players:
            assert player.wait(PATIENCE_S) == 0
        time.sleep(2)  # what is under way
        for recorder in recorders:
            recorder.terminate()
            recorder.wait(PATIENCE_S)
        reports = {"a": a.leave(), "b": b.leave()}
    heard = {}
    for side in "ab":
        heard[side], rate = soundfile.read(folder / f"heard-{side}.wav", dtype="float32")
        assert rate == 24_000
    return heard, reports


@pytest.mark.timeout(300)
def test_speech_goes_both_ways_from_device_to_device(tmp_path: Path, sound: SoundServer) -> None:
    spoken = {
        side: soundfile.read(VOICES / f"{voice}.flac", dtype="float32")[0][: SPOKEN_S * 24_000]
        for side, voice in (("a", "ada"), ("b", "ben"))
    }
    ways = [("a", "b"), ("b", "a")]
    for _ in range(ATTEMPTS):
        heard, reports = converse(tmp_path, sound, spoken)
        if all(likeness(spoken[other], heard[me]) > LIKE for me, other in ways):
            break
    for me, other in ways:
        assert likeness(spoken[other], heard[me]) > LIKE
        assert likeness(spoken[me], heard[me]) < likeness(spoken[other], heard[me])
        (speaker,) = reports[me]["speakers"].values()
        assert speaker["frames"] > SPOKEN_S * 75 / 2
        assert reports[me]["heard_start_us"] > 0
        assert reports[me]["spoken_start_us"] > 0


def test_devices_are_listed(sound: SoundServer) -> None:
    listed = run_earshot("devices", env=sound.device_env("a"))
    assert listed.returncode == 0, listed.stderr
    assert "default" in listed.stdout
    assert "--input" in listed.stdout
    assert listed.stderr == ""  # ALSA's own complaints are kept from the user


def test_device_that_is_not_there_is_said_in_one_line(tmp_path: Path, sound: SoundServer) -> None:
    for option in ("--input", "--output"):
        voice = VOICES / "ada.flac"
        other = ["--input", voice] if option == "--output" else ["--output", tmp_path / "o.wav"]
        done = run_earshot(*("call", "den", "--model", MODEL, option, "nonesuch"), *other, env=sound.device_env("a"))
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "no sound device 'nonesuch'" in done.stderr
        assert "earshot devices" in done.stderr


def test_likeness_tells_voices_apart() -> None:
    ada, ben = (soundfile.read(VOICES / f"{name}.flac", dtype="float32")[0][:120_000] for name in ("ada", "ben"))
    later = np.concatenate([np.zeros(70_000, np.float32), ada])
    assert likeness(ada, later) > 0.9
    assert likeness(ben, later) < 0.4
