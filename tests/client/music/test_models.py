"""Which models a call loads, and what follows from that for what it sends, plays and says."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from earshot.client.audio.endpoints import TALK, Format
from earshot.client.music.models import MusicModels, format_of
from earshot.client.music.window_sender import WindowSender
from earshot.codec.bitstream import pack
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.codec.pcm import Pcm
from earshot.protocol.messages import WindowModel
from earshot.protocol.packet import Packet, decode_up, encode_codes_down
from tests.client.music.windows import RATE, STRIDE, WINDOW, known_clock, us
from tests.stereo import tiny_stereo


@pytest.fixture(scope="module")
def music() -> Model:
    return tiny_stereo()


@pytest.fixture
def both(tiny_model: Model, music: Model) -> Iterator[MusicModels]:
    """Of one who talks, and hears music too."""
    models = MusicModels(tiny_model, [music])
    yield models
    models.close()


def test_what_is_heard_is_mono_unless_there_is_music(tiny_model: Model, music: Model) -> None:
    assert format_of(tiny_model) == TALK == Format(24_000, 1)
    assert format_of(tiny_model, music) == format_of(music) == Format(48_000, 2)
    other = Model(Encodec(replace(music.config, name="slow", sample_rate=32_000)))
    with pytest.raises(UsageError, match=r"cannot be played together \(tiny_48khz 48000 Hz, slow 32000 Hz\)"):
        format_of(music, tiny_model, other)


def test_one_who_plays_music(tiny_model: Model, music: Model) -> None:
    """It announces what it sends, sends windows whatever was asked for, and says that they are a
    second late."""
    models = MusicModels(music, [tiny_model])
    assert models.spoken == WindowModel.of(music.config, music.digest)
    assert models.spoken.latency_s == 1.0
    assert models.talk is tiny_model
    sender = models.sender("pcm", 24.0, known_clock())
    assert isinstance(sender, WindowSender)
    (message,) = sender.push(np.zeros((2, WINDOW), np.float32), 0, us(WINDOW))
    packet = decode_up(message)
    assert isinstance(packet, Packet)
    assert (packet.n_q, packet.frames) == (16, 150)
    models.close()


def test_rates_are_those_of_a_model(tiny_model: Model, music: Model) -> None:
    talks, plays = MusicModels(tiny_model, [music]), MusicModels(music, [tiny_model])
    talks.check_rates(1.5, 24.0)  # 24 is the music's
    plays.check_rates(24.0, 1.5)
    for models, send, most, wrong in ((talks, 24.0, 12.0, 24.0), (plays, 1.5, 12.0, 1.5), (talks, 6.0, 7.0, 7.0)):
        with pytest.raises(UsageError, match=f"no rate of {wrong:g} kbps; choose one of"):
            models.check_rates(send, most)
    for models in (talks, plays):
        models.close()


def test_everything_is_warm_before_the_call(both: MusicModels, music: Model) -> None:
    both.warm_up()
    only = MusicModels(music)
    only.warm_up()
    only.close()
    assert only.talk is None


def arrive(models: MusicModels, model: Model, song: Pcm) -> tuple[Pcm, dict[str, float]]:
    """Windows of a song that all arrive in time, heard as the mixer gives them while they are
    decoded on the models' own thread; and what is shown of the player."""
    receiver, mixer = models.receiver(known_clock())
    assert receiver.windows is not None
    receiver.windows.meet(5, WindowModel.of(model.config, model.digest), False)
    arrival = time.monotonic_ns() // 1000  # decoding is timed by the real clock, so that what waits for it is too
    for number, window in enumerate(model.encode_windows(song, 12.0)):
        packet = Packet(*window.codes.shape, 150 * number, STRIDE * number, pack(window.codes), None, 5, window.scale)
        receiver.put(encode_codes_down([packet]), arrival)
    wait_for_decoder(models)
    begin = time.monotonic_ns() // 1000
    heard = []
    for block in range(2 * song.shape[1] // 480):
        now = begin + us(block * 480)
        heard.append(mixer.pull(480, now, now))
    shown = receiver.stats()[5]
    return np.concatenate(heard, axis=1), {"late": shown.codec_latency_ms, "rate": shown.codec_kbps_total}


def wait_for_decoder(models: MusicModels) -> None:
    done = threading.Event()
    models._submit(done.set)
    assert done.wait(60)


def test_music_is_heard_as_its_model_decodes_it(both: MusicModels, music: Model) -> None:
    song = 0.2 * np.random.default_rng(3).standard_normal((2, STRIDE)).astype(np.float32)
    heard, shown = arrive(both, music, song)
    assert both.error is None
    expected = music.decode_windows(music.encode_windows(song, 12.0))
    begin = int(np.flatnonzero(heard.any(axis=0))[0])
    inner = slice(500, STRIDE - 500)
    np.testing.assert_allclose(heard[:, begin : begin + STRIDE][:, inner], expected[:, inner], rtol=0, atol=1e-5)
    assert shown["late"] == 1000
    assert shown["rate"] == pytest.approx(12.0 * 149 * 320 / STRIDE, rel=0.01)


def test_a_fault_of_the_decoder_is_kept_for_the_call_to_tell(both: MusicModels) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    both._submit(fail)
    wait_for_decoder(both)
    assert isinstance(both.error, ZeroDivisionError)


def test_a_call_that_is_over_decodes_nothing_more(both: MusicModels) -> None:
    ran: list[int] = []
    both.close()
    both._submit(lambda: ran.append(1))
    both.close()
    assert both.error is None
    assert not ran


def test_rate_of_the_format() -> None:
    assert Format(RATE, 2).samples(240) == 480
