"""One connection as a state machine: what may happen when, what is done about it, and every way to
be refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from earshot.codec.bitstream import pack
from earshot.codec.config import LITE_24KHZ
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import (
    Hello,
    Limits,
    ModelInfo,
    Mute,
    PeerChanged,
    PeerLeft,
    Ping,
    Pong,
    Record,
    Report,
    SetRate,
    Stats,
    Welcome,
    parse_server,
)
from earshot.protocol.packet import (
    CodedPacket,
    Packet,
    PcmFormat,
    PcmUp,
    Trace,
    decode_down,
    encode_codes_up,
    encode_pcm_up,
)
from earshot.server.core import refusals
from earshot.server.core.effects import (
    Announce,
    AskRecording,
    ChangeRate,
    Close,
    Decode,
    Effects,
    Encode,
    Join,
    Leave,
    NoteMuted,
    Relay,
)
from earshot.server.core.jobs import Result
from earshot.server.core.room import Peer, Room
from earshot.server.core.send_queue import DegradationPolicy
from earshot.server.core.session import IllegalEvent, Session, SessionLimits
from earshot.server.core.states import TABLE, Event, State
from earshot.server.core.uplink import SpokenFrame

HOP = LITE_24KHZ.hop_length
SECOND_US = 1_000_000
LIMITS = SessionLimits(
    messages_per_second=100.0,
    message_burst=200,
    control_per_second=10.0,
    control_burst=20,
    max_message_bytes=20_000,
    max_waiting_control=8,
    hello_timeout_s=5.0,
    stats_interval_s=1.0,
)
CODES = Packet(8, 1, 0, 0, pack(np.arange(8).reshape(8, 1)))
MEDIA = encode_codes_up(CODES)
PCM = encode_pcm_up(PcmUp(PcmFormat.S16, 0, 0, bytes(2 * HOP)))
CODED = CodedPacket(8, 1, 0, 0, b"code", True)
RESULT = Result(SpokenFrame(b"", 7, 2240, None), np.arange(8), 500, b"packed")
GONE = PeerLeft(id=9)


class Seated(NamedTuple):
    session: Session
    room: Room
    peer: Peer


def greeted(limits: SessionLimits = LIMITS, **hello: Any) -> tuple[Session, Hello]:
    """A session whose client has said hello."""
    session = Session(limits, 0)
    assert session.accepted(True, "blue") == ()
    said = Hello(**{"protocol": 1, "model": "digest", "send": "codes", **hello})
    assert session.text(said.model_dump_json(), 0) == (Join(said),)
    return session, said


def seated(limits: SessionLimits = LIMITS, entropy: str | None = None, **hello: Any) -> Seated:
    """A session whose client is in a room and has been welcomed."""
    session, said = greeted(limits, **hello)
    room = Room("blue", LITE_24KHZ, max_peers=4, degradation=DegradationPolicy(), audio_burst_ms=2000)
    peer, _ = room.join(said, 0)
    session.joined(room, peer, welcome(peer, entropy), 0)
    first = session.next_control(0)
    assert first is not None
    assert isinstance(parse_server(first), Welcome)
    return Seated(session, room, peer)


def welcome(peer: Peer, entropy: str | None = None) -> Welcome:
    limits = Limits(max_message_bytes=20_000, messages_per_second=100, audio_burst_ms=2000)
    model = ModelInfo.of(LITE_24KHZ, "digest")
    return Welcome(peer=peer.id, room="blue", model=model, limits=limits, clock_us=0, peers=[], entropy=entropy)


def in_state(state: State) -> Session:
    if state is State.HELLO:
        return Session(LIMITS, 0)
    if state is State.JOINING:
        return greeted()[0]
    session = seated().session
    if state in (State.CLOSING, State.CLOSED):
        session.fail(refusals.internal_error())
    if state is State.CLOSED:
        session.closed()
    assert session.state is state
    return session


def _joined(session: Session) -> None:
    room = Room("blue", LITE_24KHZ, max_peers=4, degradation=DegradationPolicy(), audio_burst_ms=2000)
    peer, _ = room.join(Hello(protocol=1, model="digest"), 0)
    session.joined(room, peer, welcome(peer), 0)


def _fill(session: Session) -> None:
    for number in range(LIMITS.max_waiting_control):
        session.tell(PeerLeft(id=number))


def _tell_too_much(session: Session) -> object:
    _fill(session)
    return session.tell(GONE)


def _time_when_full(session: Session) -> object:
    if session.state is State.JOINED:
        _fill(session)
    return session.time(100 * SECOND_US)


PING_TEXT = Ping(sent_us=1).model_dump_json()
HELLO_TEXT = Hello(protocol=1, model="digest").model_dump_json()
WAYS: dict[Event, list[Callable[[Session], object]]] = {
    Event.ACCEPTED: [lambda s: s.accepted(True, "blue"), lambda s: s.accepted(False, "blue")],
    Event.TEXT: [lambda s: s.text(HELLO_TEXT, 0), lambda s: s.text("{}", 0), lambda s: s.text(PING_TEXT, 0)],
    Event.MEDIA: [lambda s: s.media(MEDIA, 0), lambda s: s.media(b"", 0)],
    Event.TIME: [lambda s: s.time(0), lambda s: s.time(100 * SECOND_US), _time_when_full],
    Event.JOINED: [_joined],
    Event.ENCODED: [lambda s: s.encoded(RESULT), lambda s: s.encoded(RESULT._replace(value=None))],
    Event.DECODED: [lambda s: s.decoded(CODES), lambda s: s.decoded(None)],
    Event.TELL: [lambda s: s.tell(GONE), _tell_too_much],
    Event.FAIL: [lambda s: s.fail(refusals.too_slow())],
    Event.LOST: [lambda s: s.lost(1001, "")],
    Event.CLOSED: [lambda s: s.closed()],
}


def everything(session: Session) -> str:
    """All that a session knows, for comparison."""
    parts = dict(vars(session))
    buckets = [vars(parts.pop(name)) for name in ("_messages", "_controls")]
    return f"{parts} {buckets}"


# The table


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_every_event_in_every_state_does_what_the_table_says(state: State, event: Event) -> None:
    reached = set()
    for happens in WAYS[event]:
        session = in_state(state)
        before = everything(session)
        if event in TABLE[state]:
            effects = happens(session)
            reached.add(session.state)
            if state is State.CLOSING:
                assert not effects
        else:
            with pytest.raises(IllegalEvent, match=f"{event.value} in state {state.value}"):
                happens(session)
            assert everything(session) == before
    assert reached == TABLE[state].get(event, set())


def test_every_state_is_left_for_the_end_and_the_last_for_nothing() -> None:
    assert set(TABLE) == set(State)
    assert not TABLE[State.CLOSED]
    for state in (State.HELLO, State.JOINING, State.JOINED):
        assert TABLE[state][Event.FAIL] == TABLE[state][Event.LOST] == {State.CLOSING}


# Every refusal


def closed_with(effects: Effects) -> tuple[int, str]:
    """The code and the reason, if these effects close the connection and do nothing else."""
    (close,) = effects
    assert isinstance(close, Close)
    return close.code, close.reason


def refuse(session: Session, effects: Effects, code: CloseCode, said: str) -> None:
    found = closed_with(effects)
    assert (found[0], said in found[1]) == (code, True), found
    assert session.state is State.CLOSING


@pytest.mark.parametrize(
    ("offered", "room", "code", "said"),
    [
        (False, "blue", CloseCode.UNSUPPORTED_VERSION, "subprotocol must be earshot.v1"),
        (True, "", CloseCode.BAD_ROOM, "room name"),
        (True, "a/b", CloseCode.BAD_ROOM, "room name"),
        (True, "a" * 65, CloseCode.BAD_ROOM, "room name"),
    ],
)
def test_a_client_that_knocks_wrongly_is_refused(offered: bool, room: str, code: CloseCode, said: str) -> None:
    session = Session(LIMITS, 0)
    refuse(session, session.accepted(offered, room), code, said)


def test_the_first_message_must_be_hello_and_in_time() -> None:
    for happens, code, said in [
        (lambda s: s.media(MEDIA, 0), CloseCode.HELLO_EXPECTED, "media came before hello"),
        (lambda s: s.text(PING_TEXT, 0), CloseCode.HELLO_EXPECTED, "ping came before hello"),
        (lambda s: s.text("{", 0), CloseCode.MALFORMED, "malformed"),
        (lambda s: s.text("x" * 5000, 0), CloseCode.MESSAGE_TOO_BIG, "5000 characters"),
        (lambda s: s.text("x" * 20_001, 0), CloseCode.MESSAGE_TOO_BIG, "20001 bytes"),
        (lambda s: s.time(5 * SECOND_US), CloseCode.HELLO_EXPECTED, "no hello within 5 s"),
    ]:
        session = Session(LIMITS, 0)
        assert session.time(5 * SECOND_US - 1) == ()
        refuse(session, happens(session), code, said)


def test_a_hello_that_waited_while_the_server_stood_still_is_in_time() -> None:
    session = Session(LIMITS, 0, paused_us=SECOND_US)
    session.paused(7 * SECOND_US)
    assert session.time(11 * SECOND_US - 1) == ()
    refuse(session, session.time(11 * SECOND_US), CloseCode.HELLO_EXPECTED, "no hello within 5 s")


@pytest.mark.parametrize(
    ("message", "code", "said"),
    [
        (HELLO_TEXT, CloseCode.HELLO_EXPECTED, "second hello"),
        ('{"type": "mute"}', CloseCode.MALFORMED, "malformed control message: mute.muted"),
        ('{"type": "welcome"}', CloseCode.MALFORMED, "malformed"),
        (b"", CloseCode.MALFORMED, "truncated"),
        (b"\xff" * 20, CloseCode.MALFORMED, ""),
        (MEDIA[:-1], CloseCode.MALFORMED, "truncated"),
        (bytes(20_001), CloseCode.MESSAGE_TOO_BIG, "20001 bytes: at most 20000"),
        (PCM, CloseCode.MALFORMED, "pcm came from a client that said it would send codes"),
        (encode_codes_up(CODED), CloseCode.MALFORMED, "welcome names no language model"),
        (
            encode_codes_up(Packet(17, 1, 0, 0, pack(np.zeros((17, 1), int)))),
            CloseCode.MODEL_MISMATCH,
            "17 codebooks",
        ),
    ],
)
def test_what_a_client_in_a_room_may_not_send(message: str | bytes, code: CloseCode, said: str) -> None:
    session = seated().session
    effects = session.text(message, 0) if isinstance(message, str) else session.media(message, 0)
    refuse(session, effects, code, said)


def test_a_client_that_said_pcm_sends_no_codes_coded_or_not() -> None:
    for entropy, message in ((None, MEDIA), ("lm", MEDIA), ("lm", encode_codes_up(CODED))):
        session = seated(send="pcm", entropy=entropy).session
        refuse(session, session.media(message, 0), CloseCode.MALFORMED, "codes came from a client that said")


def test_messages_are_limited_by_the_second_and_refilled_by_time() -> None:
    session = seated(replace(LIMITS, message_burst=3)).session  # hello was one of them
    assert session.media(MEDIA, 0)
    session.text(PING_TEXT, 0)
    following = encode_codes_up(CODES._replace(sequence=1, timestamp=HOP))
    assert session.media(following, 10_000) == (CODES._replace(sequence=1, timestamp=HOP),)
    refuse(session, session.media(MEDIA, 10_000), CloseCode.TOO_MANY_MESSAGES, "more than 100 messages")
    assert session.media(MEDIA, 10_000) == ()


def test_control_messages_are_limited_more_closely() -> None:
    session = seated(replace(LIMITS, control_burst=2)).session
    report = Report(playout_delay_ms=1, underruns=0, frames_played=0, frames_missing=0).model_dump_json()
    for _ in range(2):
        assert session.text(report, 0) == ()
    refuse(session, session.text(report, 0), CloseCode.TOO_MANY_MESSAGES, "more than 10 control messages")


def test_audio_faster_than_real_time_is_refused() -> None:
    session = seated().session
    effects: Effects = ()
    for number in range(200):
        codes = pack(np.zeros((2, 32), int))
        effects = session.media(encode_codes_up(Packet(2, 32, number * 32, number * 32 * HOP, codes)), 0)
        if not isinstance(effects[0], Relay):
            break
    refuse(session, effects, CloseCode.FASTER_THAN_REAL_TIME, "ahead of real time")


def test_a_client_that_reads_no_control_messages_is_too_slow() -> None:
    session = seated().session
    for number in range(LIMITS.max_waiting_control):
        assert session.tell(PeerLeft(id=number)) == ()
    refuse(session, session.tell(GONE), CloseCode.TOO_SLOW, "you read too slowly")


def test_statistics_and_pongs_are_told_by_the_same_rule() -> None:
    for happens in (lambda s: s.time(SECOND_US), lambda s: s.text(PING_TEXT, 0)):
        session = seated(replace(LIMITS, max_waiting_control=1)).session
        session.tell(GONE)
        refuse(session, happens(session), CloseCode.TOO_SLOW, "you read too slowly")


def test_an_encoder_that_failed_ends_the_connection() -> None:
    session = seated(send="pcm").session
    refuse(session, session.encoded(RESULT._replace(value=None)), CloseCode.INTERNAL_ERROR, "the encoder failed")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (refusals.shutting_down(), CloseCode.SHUTTING_DOWN),
        (refusals.too_many_connections(), CloseCode.TOO_MANY_CONNECTIONS),
        (refusals.too_many_of_address(), CloseCode.TOO_MANY_CONNECTIONS),
        (refusals.too_many_joins(), CloseCode.TOO_MANY_CONNECTIONS),
        (refusals.too_many_rooms(), CloseCode.TOO_MANY_ROOMS),
        (refusals.no_time_for_another(), CloseCode.OVERLOADED),
        (refusals.share_is_taken(3), CloseCode.OVERLOADED),
        (refusals.no_memory("all encoders are taken"), CloseCode.OVERLOADED),
        (refusals.no_time_for_rate(3.0), CloseCode.OVERLOADED),
        (refusals.no_decoder(), CloseCode.OVERLOADED),
        (refusals.too_slow(), CloseCode.TOO_SLOW),
        (refusals.internal_error(), CloseCode.INTERNAL_ERROR),
    ],
)
@pytest.mark.parametrize("state", [State.HELLO, State.JOINING, State.JOINED])
def test_the_server_may_refuse_at_any_time_and_only_the_first_counts(
    state: State, error: ProtocolError, code: CloseCode
) -> None:
    session = in_state(state)
    refuse(session, session.fail(error), code, str(error))
    assert session.fail(refusals.internal_error()) == session.lost(1001, "") == ()


def test_a_client_that_goes_leaves_with_its_own_reason() -> None:
    for reason, said in (("", "connection closed"), ("bye", "bye")):
        session = in_state(State.JOINED)
        assert session.lost(1001, reason) == (Leave(1001, said),)
        session.closed()
        assert session.state is State.CLOSED


# What is done


def test_codes_are_relayed_and_nothing_else() -> None:
    session, _, peer = seated()
    assert session.media(MEDIA, 0) == (CODES,)
    assert session.media(MEDIA, 0) == (), "the same again is late"
    assert peer.uplink.frames_discarded == 1
    traced = CODES._replace(sequence=1, timestamp=HOP, trace=Trace(1000))
    (relay,) = session.media(encode_codes_up(traced), 2000)
    assert relay == traced._replace(trace=Trace(1000, received=10))


def test_pcm_becomes_a_job_for_each_whole_frame_and_comes_back_as_a_packet() -> None:
    session, _, peer = seated(send="pcm", send_kbps=3.0)
    data = (np.arange(2 * HOP + 5) % 100).astype("<i2").tobytes()
    first, second = session.media(encode_pcm_up(PcmUp(PcmFormat.S16, 0, 0, data)), 700)
    assert isinstance(first, Encode)
    assert isinstance(second, Encode)
    assert (first.ready_us, first.n_q, peer.send_n_q) == (700, 4, 4)
    assert [effect.tag.sequence for effect in (first, second)] == [0, 1]
    frame = SpokenFrame(b"", 5, 5 * HOP, Trace(1000, framed=3))
    relayed = session.encoded(Result(frame, np.arange(4), 3000, b"packed"))
    assert relayed == (Packet(4, 1, 5, 5 * HOP, b"packed", Trace(1000, framed=3, encoded=20)),)


def test_coded_packets_are_decoded_first_those_that_are_discarded_too() -> None:
    session, _, peer = seated(entropy="lm")
    assert session.media(encode_codes_up(CODED), 0) == (Decode(CODED, CODED),)
    assert session.decoded(CODES) == (CODES,)
    peer.muted = True
    assert session.media(encode_codes_up(CODED), 0) == (Decode(CODED, None),)
    assert session.decoded(None) == ()
    peer.muted = False
    following = CODES._replace(sequence=1, timestamp=HOP)
    assert session.media(encode_codes_up(following), 0) == (following,), "plain ones may stand between"


def test_muting_is_told_to_the_others_and_noted() -> None:
    session, _, peer = seated()
    told, noted = session.text(Mute(muted=True).model_dump_json(), 0)
    assert peer.muted
    assert told == Announce(PeerChanged(peer=peer.info()))
    assert isinstance(noted, NoteMuted)
    assert session.media(MEDIA, 0) == ()


def test_what_the_room_must_decide_is_passed_on() -> None:
    session, _, peer = seated()
    rate, record = SetRate(max_kbps=3.0), Record(on=True)
    assert session.text(rate.model_dump_json(), 0) == (ChangeRate(rate),)
    assert session.text(record.model_dump_json(), 0) == (AskRecording(record),)
    report = Report(playout_delay_ms=40, underruns=1, frames_played=2, frames_missing=3)
    assert session.text(report.model_dump_json(), 0) == ()
    assert peer.report == report


# What goes to the client


def told(session: Session, now_us: int = 0) -> list[Any]:
    found = []
    while (text := session.next_control(now_us)) is not None:
        found.append(parse_server(text))
    assert not session.outbox
    return found


def test_a_pong_says_when_the_ping_came_and_when_the_answer_went() -> None:
    session = seated().session
    assert session.text(Ping(sent_us=77).model_dump_json(), 1000) == ()
    assert told(session, 5000) == [Pong(ping_us=77, received_us=1000, sent_us=5000)]


def test_of_a_peer_that_changes_only_the_newest_waits() -> None:
    session, room, _ = seated()
    other, another = (room.join(Hello(protocol=1, model="digest"), 0)[0] for _ in range(2))
    for number in range(3 * LIMITS.max_waiting_control):
        assert session.tell(room.mute(other, Mute(muted=number % 2 == 0))) == ()
        assert session.tell(room.mute(another, Mute(muted=number % 2 == 1))) == ()
    found = told(session)
    assert [(message.peer.id, message.peer.muted) for message in found] == [(other.id, False), (another.id, True)]


def test_statistics_come_once_an_interval_after_joining() -> None:
    session = seated().session
    assert session.next_time_us == SECOND_US
    session.time(SECOND_US - 1)
    assert told(session) == []
    for now in (SECOND_US, 2 * SECOND_US + 5):
        assert session.next_time_us <= now
        session.time(now)
        assert [type(message) for message in told(session)] == [Stats]
    assert session.next_time_us == 3 * SECOND_US + 5


def test_media_go_out_when_they_are_due_and_all_bytes_are_counted() -> None:
    session, room, peer = seated(want="codes")
    speaker, _ = room.join(Hello(protocol=1, model="digest", send="codes"), 0)
    assert session.due_us(0) is None
    room.relay(speaker, CODES, 100)
    assert session.due_us(200) == 100
    assert session.take(200) == [CODES._replace(source=speaker.id)]
    assert session.due_us(200) is None
    before = peer.bytes_sent
    room.relay(speaker, CODES, 300)
    (message,) = session.next_media(300)
    assert decode_down(message) == [CODES._replace(source=speaker.id)]
    assert peer.bytes_sent == before + len(message)
    before = peer.bytes_sent
    session.sent(30)
    session.tell(GONE)
    text = session.next_control(0)
    assert text is not None
    assert peer.bytes_sent == before + 30 + len(text)


def test_nothing_goes_out_any_more_once_it_is_over() -> None:
    session, room, _ = seated(want="codes")
    speaker, _ = room.join(Hello(protocol=1, model="digest", send="codes"), 0)
    room.relay(speaker, CODES, 0)
    session.tell(GONE)
    session.fail(refusals.internal_error())
    assert session.next_control(0) is None
    assert session.due_us(0) is None


# Whatever comes


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_nothing_is_raised_and_it_ends_at_most_once(seed: int) -> None:
    """Random bytes, good messages, and good messages with a byte changed or cut off."""
    chance = random.Random(seed)
    good: list[str | bytes] = [MEDIA, PCM, encode_codes_up(CODED), HELLO_TEXT]
    good += [m.model_dump_json() for m in (Ping(sent_us=1), Mute(muted=True), SetRate(max_kbps=3.0), Record(on=True))]
    ends = 0
    for _ in range(150):
        entropy = chance.choice([None, "lm"])
        session = seated(send=chance.choice(["pcm", "codes"]), entropy=entropy).session
        now = 0
        for _ in range(10):
            message = spoil(chance, chance.choice(good))
            now += chance.randrange(50_000)
            effects = session.text(message, now) if isinstance(message, str) else session.media(message, now)
            closes = [effect for effect in effects if isinstance(effect, Close)]
            if closes:
                assert len(effects) == 1
                assert closes[0].code in set(CloseCode)
                assert session.state is State.CLOSING
                ends += 1
                assert session.text("{", now) == session.media(b"", now) == ()
                break
            assert session.state is State.JOINED
    assert ends > 20


def spoil(chance: random.Random, message: str | bytes) -> str | bytes:
    """The message as it is, random, cut off, or with a byte changed."""
    way = chance.randrange(4)
    data = message.encode() if isinstance(message, str) else message
    if way == 1:
        data = chance.randbytes(chance.randrange(40))
    elif way == 2:
        data = data[: chance.randrange(len(data))]
    elif way == 3:
        at = chance.randrange(len(data))
        data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
    return data.decode(errors="replace") if isinstance(message, str) else data
