"""Audio files that are not what they seem: all that can be read is read, the rest is said."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.client.audio.choice import open_sink
from earshot.client.audio.files import read_blocks
from earshot.codec.audio_files import read_audio
from earshot.codec.audio_formats import LIVE
from earshot.codec.audio_reader import AudioReader
from earshot.codec.ecdc.files import _read as read_to_encode
from earshot.codec.errors import AudioError
from earshot.codec.model.model import Model
from earshot.lab.training.sources import read_channels

RATE = 24_000
SOUND = (0.1 * np.sin(np.arange(2 * RATE) / 10)).astype(np.float32)
TOTAL_AT = 21


def made(ending: str, form: str, subtype: str = "PCM_16", sound: np.ndarray = SOUND, rate: int = RATE) -> bytes:
    file = Path(f"made{ending}")
    soundfile.write(file, sound, rate, subtype, format=form)
    return file.read_bytes()


def data_at(wav: bytes) -> int:
    return wav.index(b"data") + 4


def wav_says(length: int, riff: int | None = None) -> bytes:
    data = bytearray(made(".wav", "WAV"))
    struct.pack_into("<I", data, data_at(data), length)
    if riff is not None:
        struct.pack_into("<I", data, 4, riff)
    return bytes(data)


def flac_says(length: int) -> bytes:
    data = bytearray(made(".flac", "FLAC"))
    data[TOTAL_AT : TOTAL_AT + 5] = ((data[TOTAL_AT] & 0xF0) << 32 | length).to_bytes(5, "big")
    return bytes(data)


def au_of_no_length() -> bytes:
    data = bytearray(made(".au", "AU"))
    struct.pack_into(">I", data, 8, 0)
    return bytes(data)


def with_list_behind() -> bytes:
    """A chunk behind the sound is not sound, and neither is a tag."""
    data = made(".wav", "WAV")
    return data + b"LIST" + struct.pack("<I", 4) + b"INFO" + b"TAG" + bytes(125)


def twice(ending: str, form: str, subtype: str = "PCM_16") -> bytes:
    return 2 * made(ending, form, subtype)


WHOLE: dict[str, tuple[str, Callable[[], bytes], float]] = {
    "a WAV whose header has no length": (".wav", lambda: wav_says(0, 0), 2),
    "a WAV of a pipe": (".wav", lambda: wav_says(0xFFFFFFFF, 0xFFFFFFFF), 2),
    "a WAV that says too little": (".wav", lambda: wav_says(1000), 2),
    "a WAV that says too much": (".wav", lambda: wav_says(10_000_000), 2),
    "a WAV with more than sound": (".wav", with_list_behind, 2),
    "a FLAC of a pipe": (".flac", lambda: flac_says(0), 2),
    "a FLAC that says too little": (".flac", lambda: flac_says(1000), 2),
    "an AU whose header has no length": (".au", au_of_no_length, 2),
    "two WAV": (".wav", lambda: twice(".wav", "WAV"), 4),
    "two FLAC": (".flac", lambda: twice(".flac", "FLAC"), 4),
    "two FLAC of pipes": (".flac", lambda: 2 * flac_says(0), 4),
    "two Ogg Vorbis": (".ogg", lambda: twice(".ogg", "OGG", "VORBIS"), 4),
    "two Ogg Opus": (".opus", lambda: twice(".opus", "OGG", "OPUS"), 4),
    "two MP3": (".mp3", lambda: twice(".mp3", "MP3", "MPEG_LAYER_III"), 4),
    "an MP3, which is silent after a seek": (".mp3", lambda: made(".mp3", "MP3", "MPEG_LAYER_III"), 2),
    "two AIFF": (".aiff", lambda: twice(".aiff", "AIFF"), 4),
    "two AU": (".au", lambda: twice(".au", "AU"), 4),
    "two of other rates": (".wav", lambda: made(".wav", "WAV") + made(".wav", "WAV", rate=48_000), 3),
    "blocks of 65 bytes": (".wav", lambda: made(".wav", "WAV", "GSM610", SOUND[:16_001], 8_000), 16_001 / 8_000),
    "blocks of IMA ADPCM": (".wav", lambda: made(".wav", "WAV", "IMA_ADPCM"), 2),
    "blocks of MS ADPCM": (".wav", lambda: made(".wav", "WAV", "MS_ADPCM"), 2),
    "nibbles of G.721": (".wav", lambda: made(".wav", "WAV", "G721_32"), 2),
    "a name that says another format": (".wav", lambda: made(".flac", "FLAC"), 2),
    "32 channels": (".wav", lambda: made(".wav", "WAV", sound=np.repeat(SOUND[:, None], 32, axis=1)), 2),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ways(file: Path, model: Model) -> list[np.ndarray]:
    """Reads a file in each way that commands do: to judge, to train, to call, to encode."""
    return [
        read_audio(file, RATE),
        read_channels(file, RATE, 1)[:, 0],
        np.concatenate(list(read_blocks(file, 320))),
        np.concatenate([pcm[0] for pcm, _ in read_to_encode(file, model.config)]),
    ]


@pytest.mark.parametrize("name", WHOLE)
def test_what_can_be_read_is_read_whole(name: str, tiny_model: Model) -> None:
    ending, make, seconds = WHOLE[name]
    file = Path(f"odd{ending}")
    file.write_bytes(make())
    for pcm in ways(file, tiny_model):
        assert abs(len(pcm) / RATE - seconds) < 0.1, "but for what fills up the last block"
        tail = pcm[round((seconds - 0.2) * RATE) : round((seconds - 0.1) * RATE)]
        assert 0.05 < np.abs(tail).max() < 0.15, "the end is there, and is sound"


def test_no_number_is_a_moment_of_silence_and_no_more(tiny_model: Model) -> None:
    """Resampled, one NaN was 34 ms of silence."""
    for bad in (np.nan, np.inf, -np.inf, 1e30):
        sound = np.repeat(SOUND, 2)
        sound[48_000] = bad
        soundfile.write("bad.wav", sound, 48_000, "FLOAT")
        for pcm in ways(Path("bad.wav"), tiny_model):
            assert np.isfinite(pcm).all()
            around = pcm[24_000 - 400 : 24_000 + 400].reshape(-1, 100)
            assert (np.abs(around).max(axis=1) > 0.05).all()


SAID: dict[str, tuple[Callable[[], bytes], str]] = {
    "a WAV of no bytes": (lambda: b"", "holds no sound: it is empty"),
    "a WAV of no samples": (lambda: made(".wav", "WAV", sound=SOUND[:0]), "holds no sound: it is empty"),
    "a FLAC of no samples": (lambda: made(".flac", "FLAC", sound=SOUND[:0]), "holds no sound: it is empty"),
    "a FLAC that is cut": (lambda: made(".flac", "FLAC")[:9_000], "cut or damaged: 1."),
    "an Ogg that is cut": (lambda: made(".ogg", "OGG", "VORBIS")[:2_000], "cannot be read as audio"),
    "a header alone": (lambda: made(".wav", "WAV")[:20], "cannot be read as audio"),
    "a text": (lambda: b"no sound at all" * 100, "cannot be read as audio"),
    "1 Hz": (lambda: made(".wav", "WAV", rate=1), "1000 to 768000 are read"),
    "1 MHz": (lambda: made(".wav", "WAV", rate=1_000_000), "1000 to 768000 are read"),
    "65 channels": (lambda: made(".wav", "WAV", sound=np.zeros((9, 65))), "at most 64 are read"),
    "a FLAC of 30 hours": (lambda: flac_says(30 * 3600 * RATE), "hours long"),
}


@pytest.mark.parametrize("way", [0, 1, 2, 3], ids=["judge", "train", "call", "encode"])
@pytest.mark.parametrize("name", SAID)
def test_what_cannot_be_read_is_said_in_the_same_words(name: str, way: int, tiny_model: Model) -> None:
    make, said = SAID[name]
    file = Path("odd.wav")
    file.write_bytes(make())
    with pytest.raises(AudioError, match=said) as error:
        [
            lambda: read_audio(file, RATE),
            lambda: read_channels(file, RATE, 1),
            lambda: list(read_blocks(file, 320)),
            lambda: list(read_to_encode(file, tiny_model.config)),
        ][way]()
    assert str(error.value).startswith("odd.wav ")


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".opus", ".aiff"])
def test_one_sample_is_sound_in_every_way(ending: str, tiny_model: Model) -> None:
    form = {".ogg": ("OGG", "VORBIS"), ".opus": ("OGG", "OPUS")}.get(ending, (ending[1:].upper(), "PCM_16"))
    Path(f"one{ending}").write_bytes(made(ending, *form, sound=SOUND[5:6]))
    assert [len(pcm) for pcm in ways(Path(f"one{ending}"), tiny_model)] == [1, 1, 320, 1]


def test_a_wav_that_is_cut_is_read_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    data = made(".mp3", "MP3", "MPEG_LAYER_III")
    Path("cut.mp3").write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING):
        assert len(read_audio(Path("cut.mp3"), RATE)) > RATE // 2
    assert "cut.mp3 ends too soon" in caplog.text


@pytest.mark.parametrize("ending", LIVE)
def test_a_killed_call_leaves_what_was_heard(ending: str) -> None:
    """The process ends without closing the file."""
    file = Path(f"heard{ending}")
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            sink = open_sink(str(file))
            count = 0

            def pull(n: int, now_us: int, heard_us: int) -> np.ndarray:
                nonlocal count
                count += n
                if count >= 12_000:
                    os.write(writing, b"x")
                    os._exit(9)
                return SOUND[count - n : count]

            sink.start(pull)
            sink.ended.wait(10)
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    os.waitpid(child, 0)
    heard = read_audio(file, RATE)
    assert len(heard) > 12_000 - 4096 - 2 * 240, "all but what the format holds back"
    assert np.abs(heard[-1000:]).max() > 0.05


@pytest.mark.parametrize("name", ["heard.mp3", "heard.ogg", "heard.aif", "heard.au", "heard.caf", "heard.opus"])
def test_a_call_is_not_written_as_what_a_kill_would_take(name: str) -> None:
    with pytest.raises(AudioError, match=r"end its name in \.wav, \.flac or \.w64"):
        open_sink(name)


def test_the_beginning_is_read_without_the_rest() -> None:
    Path("two.wav").write_bytes(twice(".wav", "WAV"))
    with AudioReader(Path("two.wav")) as audio:
        assert audio.seconds == 4
        assert sum(len(pcm) for _, pcm in audio.pieces(2.5)) == 2.5 * RATE
    assert len(read_audio(Path("two.wav"), RATE, 0.25)) == 6_000
