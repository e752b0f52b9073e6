"""Who hears whom, and at what rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from earshot.codec.bitstream import pack, unpack
from earshot.codec.config import ENCODEC_48KHZ, LITE_24KHZ
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import Hello, Mute, SetRate, WindowModel
from earshot.protocol.packet import Packet, PcmBlock, Trace
from earshot.protocol.text import MAX_REASON
from earshot.server.core.room import PEER_IDS, Peer, Room, check_hello
from earshot.server.core.send_queue import DegradationPolicy

DIGEST = "0123456789abcdef"
MUSIC = WindowModel.of(ENCODEC_48KHZ, "f" * 16)
CODES = np.arange(16).reshape(16, 1)


@pytest.fixture
def room() -> Room:
    return Room("blue", LITE_24KHZ, max_peers=4, degradation=DegradationPolicy(), audio_burst_ms=2000)


def join(room: Room, **fields: Any) -> Peer:
    return room.join(Hello(**{"protocol": 1, "model": DIGEST, "send": "codes", **fields}), 0)[0]


def speak(room: Room, speaker: Peer, n_q: int = 16, trace: Trace | None = None) -> list[Peer]:
    return room.relay(speaker, Packet(n_q, 1, 7, 2240, pack(CODES[:n_q]), trace), 0)


def test_everyone_else_who_wants_codes_gets_them_at_a_rate_of_its_own(room: Room) -> None:
    speaker = join(room, max_kbps=12.0)
    low, middle, none = join(room, max_kbps=1.5), join(room, max_kbps=6.7), join(room, want="none")
    assert speak(room, speaker) == [low, middle]
    for listener, n_q in ((low, 2), (middle, 8)):
        (packet,) = listener.queue.take(0)
        assert isinstance(packet, Packet)
        assert (packet.source, packet.n_q, packet.sequence, packet.timestamp) == (speaker.id, n_q, 7, 2240)
        np.testing.assert_array_equal(unpack(packet.payload, n_q, 1), CODES[:n_q])
    assert not speaker.queue.take(0)
    assert not none.queue.take(0)


def test_a_speaker_below_a_listeners_rate_passes_uncut(room: Room) -> None:
    speaker, listener = join(room), join(room, max_kbps=12.0)
    speak(room, speaker, n_q=4)
    (packet,) = listener.queue.take(0)
    assert isinstance(packet, Packet)
    assert packet.n_q == 4


def test_traces_go_only_to_those_who_ask(room: Room) -> None:
    speaker, asks, does_not = join(room), join(room, trace=True), join(room)
    speak(room, speaker, trace=Trace(5))
    assert asks.queue.take(5)[0].trace == Trace(5)
    assert does_not.queue.take(5)[0].trace is None


def test_pcm_listeners_are_known_by_rate(room: Room) -> None:
    speaker = join(room)
    low, high = join(room, want="pcm", max_kbps=1.5), join(room, want="pcm", max_kbps=12.0)
    assert room.pcm_rates(speaker) == {2, 16}
    assert room.pcm_rates(low) == {16}
    assert speak(room, speaker) == []
    assert room.relay_pcm(speaker.id, 2, PcmBlock(speaker.id, 0, 0, bytes(640)), 0) == [low]
    assert low.queue.take(0)
    assert not high.queue.take(0)


def test_windows_go_to_those_who_have_their_model(room: Room) -> None:
    music = join(room, model=None, want="none", send_model=MUSIC, send_kbps=24.0)
    low, lacks = join(room, also=["a" * 16, MUSIC.digest], max_kbps=1.0), join(room, also=["a" * 16])
    pcm = join(room, want="pcm", also=[MUSIC.digest])
    codes = np.random.default_rng(3).integers(0, 1024, (16, 150))
    assert room.relay(music, Packet(16, 150, 7, 9, pack(codes), scale=0.25), 0) == [low]
    (packet,) = low.queue.take(0)
    assert isinstance(packet, Packet)
    assert (packet.source, packet.n_q, packet.frames, packet.scale) == (music.id, 1, 150, 0.25)
    np.testing.assert_array_equal(unpack(packet.payload, 1, 150), codes[:1])
    assert room.pcm_rates(music) == set()
    assert not lacks.queue.take(0)
    assert not pcm.queue.take(0)
    assert (music.info().model, low.info().model) == (MUSIC, None)
    room.leave(lacks, "")
    high = join(room, also=[MUSIC.digest], max_kbps=12.0)
    assert (high.takes(music), low.takes(music), high.takes(low), pcm.takes(music)) == (8, 1, 16, 0)
    assert room.set_rate(music, SetRate(send_kbps=3.0)).peer.send_kbps == 3.0
    with pytest.raises(ProtocolError, match="encodec_48khz has"):
        room.set_rate(music, SetRate(send_kbps=1.5))


def test_rates_change_or_are_refused_as_a_whole(room: Room) -> None:
    peer = join(room, send_kbps=6.0, max_kbps=6.0)
    changed = room.set_rate(peer, SetRate(send_kbps=3.0)).peer
    assert (changed.send_kbps, changed.max_kbps, peer.send_n_q, peer.listen_n_q) == (3.0, 6.0, 4, 8)
    for wrong in (SetRate(send_kbps=5.0, max_kbps=1.5), SetRate(send_kbps=1.5, max_kbps=0.1)):
        with pytest.raises(ProtocolError) as refused:
            room.set_rate(peer, wrong)
        assert refused.value.code == CloseCode.MODEL_MISMATCH
    assert (peer.send_kbps, peer.max_kbps, peer.send_n_q, peer.listen_n_q) == (3.0, 6.0, 4, 8)
    assert room.mute(peer, Mute(muted=True)).peer.muted


def test_a_full_room_takes_one_more_when_one_leaves(room: Room) -> None:
    peers = [join(room) for _ in range(4)]
    with pytest.raises(ProtocolError) as refused:
        join(room)
    assert refused.value.code == CloseCode.ROOM_FULL
    left = room.leave(peers[0], "gone")
    assert (left.id, left.reason) == (peers[0].id, "gone")
    assert join(room).id not in {peer.id for peer in peers}


def test_ids_come_round_again_only_after_all_others(room: Room) -> None:
    first = join(room)
    ids = []
    for _ in range(PEER_IDS):
        peer = join(room, want="none")
        ids.append(peer.id)
        room.leave(peer, "")
    assert first.id not in ids
    assert len(set(ids)) == PEER_IDS - 1
    assert ids[-1] == ids[0] == 2


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, None),
        ({"model": None, "send": "pcm", "want": "pcm"}, None),
        ({"protocol": 2}, CloseCode.UNSUPPORTED_VERSION),
        ({"model": "f" * 16}, CloseCode.MODEL_MISMATCH),
        ({"model": None, "want": "pcm"}, CloseCode.MODEL_MISMATCH),
        ({"send_kbps": 24.0}, CloseCode.MODEL_MISMATCH),
        ({"max_kbps": 0.7}, CloseCode.MODEL_MISMATCH),
        ({"send_model": MUSIC, "send_kbps": 24.0}, None),
        ({"send_model": MUSIC, "model": None, "want": "pcm"}, None),
        ({"send_model": MUSIC, "send_kbps": 1.5}, CloseCode.MODEL_MISMATCH),
        ({"send_model": MUSIC, "model": None, "want": "codes"}, CloseCode.MODEL_MISMATCH),
        ({"send_model": MUSIC, "send": "pcm"}, CloseCode.MODEL_MISMATCH),
    ],
)
def test_hello_is_checked_against_the_server(fields: dict[str, Any], code: CloseCode | None) -> None:
    hello = Hello(**{"protocol": 1, "model": DIGEST, "send": "codes", **fields})
    if code is None:
        check_hello(hello, LITE_24KHZ, DIGEST)
    else:
        with pytest.raises(ProtocolError) as refused:
            check_hello(hello, LITE_24KHZ, DIGEST)
        assert refused.value.code == code


def test_decoders_are_asked_for_talk_and_not_for_music(room: Room) -> None:
    def asked(**fields: Any) -> int:
        return room.decoders_for(Hello(**{"protocol": 1, "model": DIGEST, "send": "codes", **fields}))

    assert asked(want="pcm") == 0
    join(room)
    join(room, send_model=MUSIC, model=None, want="none")
    listener = join(room, want="pcm", send="none", max_kbps=6.0)
    assert asked(want="pcm", send="none", max_kbps=12.0) == 1
    assert asked(want="pcm", send="none", max_kbps=6.0) == 0
    assert asked() == 1
    assert asked(send_model=MUSIC) == 0
    join(room, want="pcm", send="none", max_kbps=6.0)
    assert room.decoders_for_rate(listener, SetRate(max_kbps=12.0)) == 1
    assert room.decoders_for_rate(listener, SetRate(max_kbps=6.0)) == 0


def test_peers_of_one_name_are_called_apart(room: Room) -> None:
    called = [join(room, name=name).name for name in ("Ada", "ada\u3164 (you)", "", "\u2800")]
    assert called == ["Ada", "ada (2)", "", ""]
    assert [peer.info().name for peer in room.peers.values()] == called


@pytest.mark.parametrize("reason", ["\x1b]0;owned\x07", "a\u202eb", "\ud800", "x" * 10_000, "one\ntwo"])
def test_the_reason_why_a_peer_left_is_clean_and_short(room: Room, reason: str) -> None:
    left = room.leave(join(room), reason)
    assert left.reason.isprintable()
    assert len(left.reason) <= MAX_REASON
    left.model_dump_json()
