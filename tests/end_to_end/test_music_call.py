"""`earshot call` with music: who plays it, who hears it beside a talker, and who lacks the
model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm
from earshot.codec.weights.load import save_native
from tests.end_to_end.earshot_process import EarshotCall, EarshotServer, attempt, hears
from tests.stereo import make_music, tiny_stereo

pytestmark = pytest.mark.timeout(300)

VOICES = Path(__file__).parents[2] / "lab" / "voices"
KBPS = 12.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Model) -> Path:
    path = tmp_path_factory.mktemp("models")
    save_native(tiny_model.network, path / "talk.safetensors")
    save_native(tiny_stereo().network, path / "music.safetensors")
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[EarshotServer]:
    with EarshotServer(folder, folder / "talk.safetensors") as running:
        yield running


def test_music_and_talk_are_heard_together(tmp_path: Path, folder: Path, server: EarshotServer, speech: Pcm) -> None:
    song = 0.2 * make_music(speech)[:, 120_000 : 120_000 + 4 * 48_000 + 1000]
    soundfile.write(tmp_path / "song.wav", song.T, 48_000, "FLOAT")
    attempt(lambda: play_and_talk(tmp_path, folder, server, song))


def play_and_talk(tmp_path: Path, folder: Path, server: EarshotServer, song: Pcm) -> None:
    """Ben hears Ada and the DJ, Cyd, who lacks the music's model, only Ada."""
    talk, music = folder / "talk.safetensors", folder / "music.safetensors"

    def call(name: str, *more: str | Path) -> EarshotCall:
        arguments = ["hall", "--server", server.url, "--name", name, *more]
        return EarshotCall(*arguments, report=tmp_path / f"{name}.json")

    listens = ("--input", "none", "--kbps", "6")
    ben = call("ben", "--model", talk, "--also", music, *listens, "--output", tmp_path / "ben.wav")
    cyd = call("cyd", "--model", talk, *listens, "--output", tmp_path / "cyd.wav")
    with ben, cyd:
        for each in (ben, cyd):
            each.wait_for(lambda status: status["connected"] and status["seconds"] > 0)
        ada = call("ada", "--model", talk, "--input", VOICES / "ada.flac", "--loop", "--output", "none")
        dj = call(
            *("dj", "--model", music, "--kbps", "24", "--input", tmp_path / "song.wav", "--output", "none"),
            *("--linger", "2"),
        )
        with ada, dj:
            ben.wait_for(hears("ada"))
            ben.wait_for(hears("dj"))
            cyd.wait_for(hears("ada"))
            shown = {speaker["name"]: speaker for speaker in cyd.status["speakers"]}
            assert set(shown) == {"ada", "ben", "dj"}
            assert (shown["dj"]["music"], shown["dj"]["decodable"]) == ("tiny_48khz", False)
            assert (shown["ada"]["music"], shown["ada"]["decodable"]) == ("", True)
            shown = {speaker["name"]: speaker for speaker in ben.status["speakers"]}
            assert set(shown) == {"ada", "cyd", "dj"}
            assert shown["dj"]["decodable"]
            assert shown["dj"]["codec_latency_ms"] == 1000
            assert shown["dj"]["mouth_to_ear_ms"] > 1000
            played = dj.finish()
            ben.wait_for(lambda status: "dj" not in {each["name"] for each in status["speakers"]})
            ben.wait_for(lambda status, until=ben.status["seconds"] + 2: status["seconds"] > until)
            heard, lacked = ben.leave(), cyd.leave()

    speakers = {each["name"]: each for each in heard["speakers"].values()}
    assert {each["name"] for each in lacked["speakers"].values()} == {"ada"}
    assert played["codec_latency_ms"] == speakers["dj"]["codec_latency_ms"] == 1000
    assert played["sent"]["codec_kbps"] == pytest.approx(24.24, rel=0.02)  # windows overlap by 1 %
    assert speakers["dj"]["frames"] >= played["sent"]["frames"] - 150  # the last window may come after ben has left
    assert (speakers["dj"]["missing"], speakers["ada"]["missing"]) == (0, 0)
    assert 1000 < speakers["dj"]["mouth_to_ear_ms"]["p50"] < 3000
    check_mix(tmp_path / "ben.wav", tmp_path / "cyd.wav", tiny_stereo(), song)


def check_mix(both: Path, talk_only: Path, model: Model, song: Pcm) -> None:
    """What was heard, less what the model makes of the song, is one voice in the middle. Piece by
    piece, because a busy machine may play a block of silence between two."""
    mixed, rate = soundfile.read(both, dtype="float32")
    assert (rate, mixed.shape[1]) == (48_000, 2)
    assert soundfile.info(talk_only).channels == 1
    expected = model.decode_windows(model.encode_windows(song, KBPS))
    side, wanted = mixed[:, 0] - mixed[:, 1], expected[0] - expected[1]  # the voice is not in it
    voices, length = [], 12_000
    for start in range(length, 3 * 48_000, length):
        piece = slice(start, start + length)
        size = 1 << (side.size + length).bit_length()
        fits = np.fft.irfft(np.fft.rfft(side, size) * np.conj(np.fft.rfft(wanted[piece], size)), size)
        at = int(np.argmax(fits[: side.size - length]))
        if np.abs(side[at : at + length] - wanted[piece]).max() < 2e-4:  # rounded to 16 bits
            voices.append(mixed[at : at + length].T - expected[:, piece])
    assert len(voices) >= 4
    for voice in voices:
        np.testing.assert_allclose(voice[0], voice[1], rtol=0, atol=2e-4)
    assert max(np.abs(voice).max() for voice in voices) > 0.01
    assert np.abs(wanted).max() > 0.01
