"""`earshot call` from one virtual sound device to another carries speech both ways, and `earshot devices`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture(scope="module")
def sound() -> Iterator[SoundServer]:
    with SoundServer() as running:
        yield running


def likeness(spoken: Pcm, heard: Pcm) -> float:
    """How like the heard speech is, 0..1, if it begins within the first four seconds of the recording."""
    # `compare` looks for delays of up to two seconds.
    return max(compare(spoken, heard[start:]).similarity for start in (0, 48_000))


def test_speech_goes_both_ways_from_device_to_device(tmp_path: Path, sound: SoundServer) -> None:
    spoken: dict[str, Pcm] = {}
    for side, voice in (("a", "ada"), ("b", "ben")):
        pcm, _ = soundfile.read(VOICES / f"{voice}.flac", dtype="float32")
        spoken[side] = pcm[: SPOKEN_S * 24_000]
        soundfile.write(tmp_path / f"{side}.wav", spoken[side], 24_000)

    def call(side: str, url: str, uplink: str) -> EarshotCall:
        arguments = ["den", "--server", url, "--model", MODEL, "--name", side, "--uplink", uplink]
        return EarshotCall(*arguments, report=tmp_path / f"{side}.json", env=sound.device_env(side))

    with (
        EarshotServer(tmp_path, MODEL) as server,
        call("a", server.url, "pcm") as a,
        call("b", server.url, "codes") as b,
    ):
        a.wait_for(hears("b"))
        b.wait_for(hears("a"))
        recorders = [sound.record(side, tmp_path / f"heard-{side}.wav") for side in "ab"]
        time.sleep(0.5)
        players = [sound.speak(side, tmp_path / f"{side}.wav") for side in "ab"]
        for player in players:
            assert player.wait(PATIENCE_S) == 0
        time.sleep(2)  # what is under way
        for recorder in recorders:
            recorder.terminate()
            recorder.wait(PATIENCE_S)
        reports = {"a": a.leave(), "b": b.leave()}

    for me, other in (("a", "b"), ("b", "a")):
        heard, rate = soundfile.read(tmp_path / f"heard-{me}.wav", dtype="float32")
        assert rate == 24_000
        assert likeness(spoken[other], heard) > 0.4  # client/measure.py: other speech stays under 0.3
        assert likeness(spoken[me], heard) < likeness(spoken[other], heard)
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
