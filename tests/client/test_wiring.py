"""What a call is made of: models of talk alone or with music, and entropy coding if it is asked
for."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from earshot.client.audio.endpoints import TALK, NoSink, NoSource, Sink
from earshot.client.core.sender import Sender
from earshot.client.music.models import MusicModels, in_windows
from earshot.client.settings import CallSettings
from earshot.client.wiring import call_models, make_call
from earshot.codec.config import LITE_24KHZ
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec
from earshot.protocol.packet import PcmUp, decode_up
from tests.client.music.windows import known_clock
from tests.integer_lm import live_lm
from tests.stereo import tiny_stereo


def test_one_who_talks(tiny_model: Model) -> None:
    models = call_models(tiny_model)
    assert not in_windows(models.mine)
    assert models.spoken is None
    assert (models.talk, models.windows, models.spoken_format, models.heard_format) == (tiny_model, {}, TALK, TALK)
    receiver, mix = models.receiver(known_clock())
    assert receiver.windows is None
    assert mix is receiver
    sender = models.sender("pcm", 6.0, known_clock())
    assert isinstance(sender, Sender)
    assert all(isinstance(decode_up(each), PcmUp) for each in sender.push(np.zeros(640, np.float32), 0, 1))
    models.close()


def test_models_of_frames_only_need_no_thread(tiny_model: Model) -> None:
    before = set(threading.enumerate())
    models = call_models(tiny_model, [Model(Encodec(replace(LITE_24KHZ, n_filters=4)))])
    assert not isinstance(models, MusicModels)
    models.warm_up()
    assert set(threading.enumerate()) <= before
    models.close()


@pytest.mark.parametrize("mine_is_music", [True, False])
def test_music_comes_in_where_one_of_the_models_codes_in_windows(tiny_model: Model, mine_is_music: bool) -> None:
    music = tiny_stereo()
    mine, also = (music, tiny_model) if mine_is_music else (tiny_model, music)
    call = make_call(CallSettings("den"), mine, NoSource(), NoSink(), [also])
    assert isinstance(call.models, MusicModels)
    assert (call.models.mine, call.models.talk, list(call.models.windows)) == (mine, tiny_model, [music.digest])
    assert call.coding is None
    call.models.close()


def test_one_who_hears_nobody_talk_must_not_listen() -> None:
    with pytest.raises(UsageError, match="is for music; to hear who talks"):
        make_call(CallSettings("den"), tiny_stereo(), NoSource(), Sink())


def test_entropy_coding_comes_in_with_a_language_model(tiny_model: Model) -> None:
    pytest.importorskip("earshot.codec.engine.native.lm")
    call = make_call(CallSettings("den"), tiny_model, NoSource(), NoSink(), live_lm=live_lm())
    assert call.coding is not None
    assert call.coding.digest == live_lm().digest
    first, second = call.coding.make_coder(), call.coding.make_coder()
    assert first is not second  # a coder serves one connection
    first.close()
    second.close()


def test_a_call_of_talk_loads_neither_music_nor_entropy_coding() -> None:
    script = "import sys, earshot.client.call; print([name for name in sys.modules if name.startswith('earshot.')])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "earshot.client.core.receiver" in run.stdout
    for outside in ("client.music", "client.entropy", "protocol.entropy_link"):
        assert outside not in run.stdout
