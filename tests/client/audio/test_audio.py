"""Sources and sinks: files as devices in real time, and how a device is chosen. Devices:
end_to_end/test_devices.py."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.client.audio import files as audio_files
from earshot.client.audio.choice import open_sink, open_source
from earshot.client.audio.devices import DeviceClock
from earshot.client.audio.endpoints import (
    SAMPLE_RATE,
    Cushion,
    NoSink,
    NoSource,
    samples_us,
)
from earshot.client.audio.files import SINK_BLOCK, SOURCE_BLOCK, FileSink, FileSource, read_blocks
from earshot.client.audio.portaudio import list_devices
from earshot.client.local_clock import monotonic_us
from earshot.codec.errors import AudioError
from earshot.codec.pcm import Pcm


def tone(seconds: float, rate: int = SAMPLE_RATE, hertz: float = 440.0) -> Pcm:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_rate_and_channels_become_24_khz_mono(tmp_path: Path, rate: int, channels: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.repeat(tone(1.0, rate)[:, None], channels, axis=1), rate, "FLOAT")
    blocks = list(read_blocks(tmp_path / "a.wav", SOURCE_BLOCK))
    assert all(block.shape == (SOURCE_BLOCK,) and block.dtype == np.float32 for block in blocks)
    pcm = np.concatenate(blocks)
    assert abs(pcm.size - SAMPLE_RATE) < 2 * SOURCE_BLOCK
    middle = slice(SAMPLE_RATE // 4, 3 * SAMPLE_RATE // 4)  # resampling filters ring at the ends
    assert np.abs(pcm[middle] - tone(1.0)[middle]).max() < 0.01


def test_last_block_is_filled_with_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(SOURCE_BLOCK + 7, 0.5, np.float32), SAMPLE_RATE, "FLOAT")
    first, last = read_blocks(tmp_path / "a.wav", SOURCE_BLOCK)
    assert (first == 0.5).all()
    assert (last[:7] == 0.5).all()
    assert not last[7:].any()


def test_loop_joins_end_and_beginning(tmp_path: Path) -> None:
    ramp = np.arange(500, dtype=np.float32) / 500
    soundfile.write(tmp_path / "a.wav", ramp, SAMPLE_RATE, "FLOAT")
    blocks = read_blocks(tmp_path / "a.wav", SOURCE_BLOCK, loop=True)
    pcm = np.concatenate([next(blocks) for _ in range(20)])
    assert np.array_equal(pcm, np.resize(ramp, pcm.size))


@pytest.mark.parametrize("content", [None, b"", b"RIFF\x00\x00", b"no sound at all" * 100])
def test_what_is_no_audio_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError, match=r"broken\.wav"):
        FileSource(path)


def test_empty_file_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), SAMPLE_RATE)
    with pytest.raises(AudioError, match="is empty"):
        next(read_blocks(tmp_path / "empty.wav", SOURCE_BLOCK))


def test_file_source_gives_every_sample_no_sooner_than_it_is_spoken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_files, "LATEST_US", 60_000_000)
    soundfile.write(tmp_path / "a.wav", tone(0.4), SAMPLE_RATE, "FLOAT")
    came: list[tuple[Pcm, int, int]] = []
    source = FileSource(tmp_path / "a.wav")
    source.start(lambda pcm, captured_us: came.append((pcm, captured_us, monotonic_us())))
    assert source.ended.wait(10)
    source.stop()
    assert source.error is None
    assert np.array_equal(np.concatenate([pcm for pcm, _, _ in came]), tone(0.4))
    for index, (_, captured, at) in enumerate(came):
        assert captured == source.started_us + samples_us(index * SOURCE_BLOCK)  # no drift
        assert at >= captured + samples_us(SOURCE_BLOCK) - 1


def test_file_source_that_is_held_up_long_loses_what_it_missed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.8), SAMPLE_RATE, "FLOAT")
    captures: list[int] = []
    holding = threading.Event()

    def on_block(pcm: Pcm, captured_us: int) -> None:
        captures.append(captured_us)
        if len(captures) == 1:
            holding.wait(0.7)

    source = FileSource(tmp_path / "a.wav")
    source.start(on_block)
    assert source.ended.wait(10)
    source.stop()
    assert source.overflows > 0
    assert len(captures) + source.overflows == 60
    assert all((captured - source.started_us) % samples_us(SOURCE_BLOCK) < 60 for captured in captures)


def test_file_sink_writes_what_is_heard_when_it_is_due(tmp_path: Path) -> None:
    asked: list[tuple[int, int, int]] = []
    done = threading.Event()
    sound = tone(1.0)

    def pull(n: int, now_us: int, heard_us: int) -> Pcm:
        start = sum(n for n, _, _ in asked)
        asked.append((n, now_us, heard_us))
        if len(asked) == 20:
            done.set()
        return sound[start : start + n]

    sink = FileSink(tmp_path / "heard.wav")
    sink.start(pull)
    assert done.wait(10)
    sink.stop()
    assert sink.error is None
    heard, rate = soundfile.read(tmp_path / "heard.wav", dtype="float32")
    assert rate == SAMPLE_RATE
    start = 0
    for n, now, due in asked:
        at = round((due - sink.started_us) * SAMPLE_RATE / 1e6)
        assert now <= due
        assert at % SINK_BLOCK == 0
        assert np.abs(heard[at : at + n] - sound[start : start + n]).max() < 1e-4
        start += n
    assert heard.size == (len(asked) + sink.underflows) * SINK_BLOCK


def test_file_sink_plays_silence_for_what_comes_too_late(tmp_path: Path) -> None:
    done = threading.Event()
    calls = 0

    def pull(n: int, now_us: int, heard_us: int) -> Pcm:
        nonlocal calls
        calls += 1
        if calls == 3:
            threading.Event().wait(0.1)
        if calls == 6:
            done.set()
        return np.full(n, 0.5, np.float32)

    sink = FileSink(tmp_path / "heard.wav")
    sink.start(pull)
    assert done.wait(10)
    sink.stop()
    heard, _ = soundfile.read(tmp_path / "heard.wav", dtype="float32")
    blocks = heard.reshape(-1, SINK_BLOCK)
    assert sink.underflows >= 5
    assert (blocks == 0).all(axis=1).sum() == sink.underflows


def test_error_of_a_callback_ends_the_source_and_is_kept(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.4), SAMPLE_RATE)

    def on_block(pcm: Pcm, captured_us: int) -> None:
        raise RuntimeError("boom")

    source = FileSource(tmp_path / "a.wav")
    source.start(on_block)
    assert source.ended.wait(10)
    assert str(source.error) == "boom"


def test_sink_that_cannot_be_written_is_an_audio_error(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot write"):
        FileSink(tmp_path / "missing" / "heard.wav").start(lambda n, now, heard: np.zeros(n, np.float32))


def test_files_are_told_from_devices_by_suffix_or_because_they_exist(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "voice.FLAC", tone(0.1), SAMPLE_RATE)
    soundfile.write(tmp_path / "nameless", tone(0.1), SAMPLE_RATE, format="WAV")
    assert isinstance(open_source(str(tmp_path / "voice.FLAC")), FileSource)
    assert isinstance(open_source(str(tmp_path / "nameless")), FileSource)
    assert isinstance(open_sink(str(tmp_path / "heard.wav")), FileSink)
    with pytest.raises(AudioError, match=r"missing\.wav"):
        open_source(str(tmp_path / "missing.wav"))
    with pytest.raises(AudioError, match="only a file can be played in a loop"):
        open_source(None, loop=True)


def test_none_is_no_device() -> None:
    assert isinstance(open_source("none"), NoSource)
    assert isinstance(open_sink("none"), NoSink)


class _NoDevices:
    """PortAudio on a machine without sound."""

    class PortAudioError(Exception):
        pass

    def query_devices(self, device: object, kind: str) -> None:
        raise self.PortAudioError("Error querying device -1")


@pytest.mark.parametrize("name", [None, "3", "headset"])
def test_machine_without_sound_devices_says_so(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", _NoDevices())
    wanted = "no default sound device" if name is None else f"no sound device '{name}'"
    with pytest.raises(AudioError, match=rf"{wanted} for input\. .*files can be given instead"):
        open_source(name)
    with pytest.raises(AudioError, match=rf"{wanted} for output\. .*files can be given instead"):
        open_sink(name)


def test_portaudio_that_does_not_start_is_an_audio_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sounddevice.py").write_text("raise RuntimeError('Error initializing PortAudio')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(AudioError, match="PortAudio does not start: Error initializing PortAudio"):
        list_devices()


def test_missing_portaudio_says_what_to_install() -> None:
    script = (
        "import ctypes.util, earshot.client.audio.endpoints, earshot.client.audio.portaudio\n"
        "ctypes.util.find_library = lambda name: None\n"
        "try:\n    earshot.client.audio.portaudio.list_devices()\n"
        "except earshot.client.audio.portaudio.AudioError as error:\n    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "apt install libportaudio2" in run.stdout


def test_no_module_of_the_client_imports_sounddevice_by_itself() -> None:
    modules = ("choice", "endpoints", "files", "devices", "portaudio")
    names = ", ".join(f"earshot.client.audio.{module}" for module in modules)
    script = f"import sys, {names}; print('sounddevice' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_device_clock_smooths_jitter_and_follows_jumps() -> None:
    clock = DeviceClock(48_000)
    rng = np.random.default_rng(1)
    for block in range(200):
        clock.update(block * 480, 1e6 + block * 10_000 + rng.uniform(-3_000, 3_000))
    assert abs(clock.at(200 * 480) - 3_000_000) < 1_500
    clock.update(200 * 480, 3_500_000)
    assert clock.at(201 * 480) == 3_510_000


def test_cushion_grows_once_a_stall_and_shrinks_when_calm() -> None:
    cushion = Cushion(least=1, most=3, calm=10)
    seen = []
    for dry in [False, True, True, True, False, True, False, True, False]:
        cushion.block(dry)
        seen.append(cushion.blocks)
    assert seen == [1, 2, 2, 2, 2, 3, 3, 3, 3]
    for _ in range(8):
        cushion.block(dry=False)
    assert cushion.blocks == 3
    cushion.block(dry=False)
    assert cushion.blocks == 2
    for _ in range(30):
        cushion.block(dry=False)
    assert cushion.blocks == 1
