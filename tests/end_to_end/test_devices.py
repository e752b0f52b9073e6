"""`earshot call` from one virtual sound device to another, speech and music in stereo, and `earshot
devices`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from earshot.codec.weights.load import save_native
from earshot.lab.demo.measure import compare
from earshot.lab.devices.latency import measure
from earshot.lab.devices.sound_server import SoundServer
from tests.end_to_end.earshot_process import PATIENCE_S, EarshotCall, EarshotServer, attempt, hears, run_earshot
from tests.stereo import make_music, tiny_stereo

pytestmark = pytest.mark.timeout(300)

VOICES = Path(__file__).parents[2] / "lab" / "voices"
MODEL = os.environ.get("EARSHOT_TEST_MODEL", "default")
SPOKEN_S = 8
LIKE = 0.4
"""Other speech stays under 0.3 (lab/demo/measure.py)."""


@pytest.fixture(scope="module")
def sound() -> Iterator[SoundServer]:
    with SoundServer() as running:
        yield running


def likeness(spoken: Pcm, heard: Pcm) -> float:
    """How like the heard speech is, 0..1, if it begins within the first four seconds of the
    recording."""
    # `compare` looks for delays of up to two seconds.
    return max(compare(spoken, heard[start:]).similarity for start in (0, 48_000))


def converse(folder: Path, sound: SoundServer, spoken: dict[str, Pcm]) -> tuple[dict[str, Pcm], dict[str, Any]]:
    """Speaks into both microphones at once; what came out of each speaker, and the reports of both
    calls."""
    for side, pcm in spoken.items():
        soundfile.write(folder / f"{side}.wav", pcm, 24_000)

    def call(side: str, url: str, uplink: str) -> EarshotCall:
        # Both microphones are silent until each has heard the other, so silence must be sent.
        arguments = ["den", "--server", url, "--model", MODEL, "--name", side, "--uplink", uplink, "--no-dtx"]
        return EarshotCall(*arguments, report=folder / f"{side}.json", env=sound.device_env(side))

    with (
        EarshotServer(folder, MODEL) as server,
        call("a", server.url, "pcm") as a,
        call("b", server.url, "codes") as b,
    ):
        a.wait_for(hears("b"))
        b.wait_for(hears("a"))
        with sound.record("a", folder / "heard-a.wav"), sound.record("b", folder / "heard-b.wav"):
            time.sleep(0.5)
            players = [sound.speak(side, folder / f"{side}.wav") for side in "ab"]
            assert [player.wait(PATIENCE_S) for player in players] == [0, 0]
            time.sleep(2)  # what is under way
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

    def talk() -> None:
        heard, reports = converse(tmp_path, sound, spoken)
        for me, other in (("a", "b"), ("b", "a")):
            assert likeness(spoken[other], heard[me]) > LIKE
            assert likeness(spoken[me], heard[me]) < likeness(spoken[other], heard[me])
            (speaker,) = reports[me]["speakers"].values()
            assert speaker["frames"] > SPOKEN_S * 75 / 2
            assert reports[me]["heard_start_us"] > 0
            assert reports[me]["spoken_start_us"] > 0

    attempt(talk)


def play_song(folder: Path, sound: SoundServer, song: Pcm) -> Pcm:
    """What comes out of a stereo loudspeaker, [2, n], where somebody listens to a song of somebody
    else."""
    soundfile.write(folder / "song.wav", song.T, 48_000, "FLOAT")
    talk, music = folder / "talk.safetensors", folder / "music.safetensors"
    with EarshotServer(folder, talk) as server:
        common = ["hall", "--server", server.url]
        listens = [*common, "--name", "ben", "--model", talk, "--also", music, "--input", "none"]
        plays = [*common, "--name", "dj", "--model", music, "--kbps", "24", "--input", folder / "song.wav"]
        with EarshotCall(*listens, report=folder / "ben.json", env=sound.device_env("stereo")) as ben:
            ben.wait_for(lambda status: status["connected"] and status["seconds"] > 0)
            with (
                sound.record("stereo", folder / "heard.wav"),
                EarshotCall(*plays, "--output", "none", "--linger", "2", report=folder / "dj.json") as dj,
            ):
                ben.wait_for(hears("dj"))
                dj.finish()
            ben.leave()
    heard, rate = soundfile.read(folder / "heard.wav", dtype="float32", always_2d=True)
    assert (rate, heard.shape[1]) == (48_000, 2)
    return np.asarray(heard.T)


def sidedness(wanted: Pcm, heard: Pcm) -> float:
    """How far what is heard on the left and not on the right is what should be, -1 (sides changed)
    to 1: the median over quarters of a second, each where it fits best, because a busy machine may
    play silence between two."""
    side, length, found = heard[0] - heard[1], 12_000, []
    for start in range(length, wanted.shape[1] - length, length):
        piece = (wanted[0] - wanted[1])[start : start + length]
        size = 1 << (side.size + length).bit_length()
        fits = np.fft.irfft(np.fft.rfft(side, size) * np.conj(np.fft.rfft(piece, size)), size)[: side.size - length]
        energy = np.concatenate([[0.0], np.cumsum(np.square(side, dtype=np.float64))])
        at = int(np.argmax(np.abs(fits)))
        loudness = np.sqrt(max(energy[at + length] - energy[at], 1e-9)) * np.linalg.norm(piece)
        found.append(float(fits[at] / loudness))
    return float(np.median(found))


def test_music_arrives_on_its_sides_of_a_stereo_device(
    tmp_path: Path, sound: SoundServer, tiny_model: Model, speech: Pcm
) -> None:
    model = tiny_stereo()
    save_native(tiny_model.network, tmp_path / "talk.safetensors")
    save_native(model.network, tmp_path / "music.safetensors")
    song = 0.5 * make_music(speech)[:, 120_000 : 120_000 + 3 * 48_000]
    wanted = model.decode_windows(model.encode_windows(song, 12.0))  # the most that a listener takes unless it says so
    assert sidedness(wanted, wanted[::-1]) < -0.9
    assert abs(sidedness(wanted, wanted.mean(axis=0, keepdims=True).repeat(2, axis=0))) < 0.1

    def play() -> None:
        heard = play_song(tmp_path, sound, song)
        assert sidedness(wanted, heard) > 0.9
        assert np.abs(heard[0] - heard[1]).max() > 0.01

    attempt(play)


def test_the_delay_from_device_to_device_is_measured() -> None:
    """By sound, and by the call's own figures, which know the buffers of the devices."""

    def from_device_to_device() -> None:
        found = measure(6, 6.0, "low", MODEL, print)
        assert found.pieces > 5
        assert len(found.pieces_ms) > found.pieces / 2
        heard = found.percentile(50)
        assert heard is not None
        assert abs(found.mouth_to_ear_ms["p50"] - heard) < 30

    attempt(from_device_to_device)


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
