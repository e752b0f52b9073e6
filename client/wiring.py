"""Puts a call together, with music and entropy coding where they are asked for.

This is the only module that knows both the path of talk (client/core, audio, net and call) and what
hangs in from outside (client/music and client/entropy)."""

from __future__ import annotations

from collections.abc import Sequence

from earshot.client.audio.endpoints import Sink, Source
from earshot.client.call import Call
from earshot.client.entropy.coder import EntropyCoder
from earshot.client.models import CallModels
from earshot.client.music.models import MusicModels, WindowCodec, in_windows
from earshot.client.net.connection import PacketCoding
from earshot.client.settings import CallSettings
from earshot.codec.lm.entropy import LiveLm


def call_models(mine: WindowCodec, also: Sequence[WindowCodec] = ()) -> CallModels:
    """Returns the models of a call: with music if one of them codes in windows."""
    return MusicModels(mine, also) if any(map(in_windows, (mine, *also))) else CallModels(mine)


def make_call(
    settings: CallSettings,
    model: WindowCodec,
    source: Source,
    sink: Sink,
    also: Sequence[WindowCodec] = (),
    live_lm: LiveLm | None = None,
) -> Call:
    """Returns a call that is ready to run.

    `model` codes what this client says; what it hears is decoded by that model and by those in
    `also`. `source` and `sink` have the `format_of` the models that they are for. With `live_lm`
    packets are entropy-coded where the server can do so. Raises UsageError for settings that no
    server could take."""
    coding = PacketCoding(live_lm.digest, lambda: EntropyCoder(live_lm)) if live_lm else None
    return Call(settings, call_models(model, also), source, sink, coding)
