"""What waits for a listener, in fake time: each rung of docs/protocol.md, "Slow listeners"."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.codec.bitstream import pack, unpack
from earshot.protocol.packet import MAX_FRAMES, Packet, PcmBlock, Trace
from earshot.server.core.send_queue import ACTIVE_US, MAX_WAITING, Media, SendQueue

HOP = 320
FRAME_US = 13_333
MS = 1000


def codes(number: int, n_q: int = 16) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 1024, (n_q, 1))


def packet(number: int, source: int = 1, n_q: int = 16, trace: Trace | None = None) -> Packet:
    return Packet(n_q, 1, number % 65536, number * HOP, pack(codes(number, n_q)), trace, source)


def block(number: int, source: int = 1) -> PcmBlock:
    return PcmBlock(source, number % 65536, number * HOP, np.full(HOP, number, "<i2").tobytes())


def filled(count: int, age_us: int, make: object = packet) -> tuple[SendQueue, int]:
    """A queue into which `count` frames came at once, and the time when they are so old."""
    queue = SendQueue(HOP, FRAME_US)
    for number in range(count):
        queue.put(make(number), 0)  # type: ignore[operator]
    return queue, age_us


def test_what_is_young_goes_out_as_it_came() -> None:
    queue, now = filled(3, 39 * MS)
    assert [queue.take(now) for _ in range(4)] == [[packet(0)], [packet(1)], [packet(2)], []]
    assert (queue.frames_sent, queue.frames_dropped, queue.codebooks_cut) == (3, 0, 0)


def test_from_40_ms_on_frames_are_joined() -> None:
    queue, now = filled(5, 40 * MS)
    (joined,) = queue.take(now)
    assert isinstance(joined, Packet)
    assert (joined.frames, joined.n_q, joined.sequence, joined.timestamp) == (5, 16, 0, 0)
    expected = np.concatenate([codes(number) for number in range(5)], axis=1)
    np.testing.assert_array_equal(unpack(joined.payload, 16, 5), expected)
    assert not queue.take(now)
    assert (queue.frames_sent, queue.codebooks_cut) == (5, 0)


@pytest.mark.parametrize(("age_ms", "n_q"), [(119, 16), (120, 4), (189, 4), (190, 2), (250, 2)])
def test_older_packets_are_cut_to_fewer_codebooks(age_ms: int, n_q: int) -> None:
    queue, now = filled(5, age_ms * MS)
    (cut,) = queue.take(now)
    assert isinstance(cut, Packet)
    assert cut.n_q == n_q
    expected = np.concatenate([codes(number) for number in range(5)], axis=1)[:n_q]
    np.testing.assert_array_equal(unpack(cut.payload, n_q, 5), expected)
    assert queue.codebooks_cut == 5 * (16 - n_q)


def test_above_250_ms_the_oldest_are_dropped() -> None:
    queue = SendQueue(HOP, FRAME_US)
    for number in range(100):
        queue.put(packet(number), number * 10 * MS)
        assert queue.age_us(number * 10 * MS) <= 250 * MS
    (rest,) = queue.take(990 * MS)
    assert isinstance(rest, Packet)
    assert (rest.sequence, rest.frames) == (74, 26)
    assert queue.frames_dropped == 74


def test_nothing_is_kept_for_one_who_never_takes() -> None:
    queue, _ = filled(10, 0)
    assert not queue.take(251 * MS)
    assert queue.frames_dropped == 10
    assert queue.due_us(251 * MS) is None


def test_many_at_once_are_bounded_too() -> None:
    queue, _ = filled(MAX_WAITING + 10, 0)
    assert queue.frames_dropped == 10


def test_packets_are_joined_only_where_they_follow_and_up_to_what_fits() -> None:
    queue = SendQueue(HOP, FRAME_US)
    kinds: list[Media] = [packet(0), packet(1), packet(3), packet(4, n_q=8), packet(5, n_q=8)]
    kinds += [packet(number, n_q=8) for number in range(6, 50)]
    for media in kinds:
        queue.put(media, 0)
    shapes = []
    while message := queue.take(50 * MS):
        (joined,) = message
        assert isinstance(joined, Packet)
        shapes.append((joined.sequence, joined.frames, joined.n_q))
    assert shapes == [(0, 2, 16), (3, 1, 16), (4, MAX_FRAMES, 8), (36, 14, 8)]


def test_pcm_is_joined_and_dropped_and_never_cut() -> None:
    queue, now = filled(30, 200 * MS, block)
    (joined,) = queue.take(now)
    assert isinstance(joined, PcmBlock)
    np.testing.assert_array_equal(np.frombuffer(joined.data, "<i2"), np.repeat(np.arange(25), HOP))
    assert len(queue.take(now)) == 1
    assert (queue.frames_sent, queue.codebooks_cut) == (30, 0)


def test_recovery_is_one_rung_a_second() -> None:
    queue, now = filled(1, 200 * MS)
    queue.take(now)
    n_q = []
    for number in range(1, 400):
        now += FRAME_US
        queue.put(packet(number), now)
        (sent,) = queue.take(now)
        assert isinstance(sent, Packet)
        n_q.append(sent.n_q)
    changes = [index for index in range(1, len(n_q)) if n_q[index] != n_q[index - 1]]
    assert [n_q[0], *(n_q[index] for index in changes)] == [2, 4, 16]
    assert all(74 <= later - earlier <= 77 for earlier, later in zip([0, *changes], changes, strict=False))


def test_a_lone_speaker_waits_for_nobody() -> None:
    queue = SendQueue(HOP, FRAME_US)
    assert queue.due_us(0) is None
    queue.put(packet(0), 100)
    assert queue.due_us(100) == 100


def test_of_several_speakers_each_is_waited_for_but_not_longer_than_a_frame() -> None:
    queue = SendQueue(HOP, FRAME_US)
    queue.put(packet(0, source=1), 0)
    queue.put(packet(0, source=2), 0)
    assert [media.source for media in queue.take(0)] == [1, 2]
    queue.put(packet(1, source=2), 5000)
    assert queue.due_us(5000) == 5000 + FRAME_US
    queue.put(packet(1, source=1), 9000)
    assert queue.due_us(9000) == 5000
    queue.take(9000)
    queue.put(packet(2, source=1), 20_000)
    assert queue.due_us(20_000) == 20_000 + FRAME_US
    queue.forget(2)
    assert queue.due_us(20_000) == 20_000
    queue.put(packet(2, source=2), 20_000)
    queue.take(20_000)
    queue.put(packet(3, source=1), 20_000 + ACTIVE_US)
    assert queue.due_us(20_000 + ACTIVE_US) == 20_000 + ACTIVE_US


def test_a_window_is_sent_whole_and_waited_for_by_nobody() -> None:
    queue = SendQueue(HOP, FRAME_US)
    windows = [Packet(16, 150, 150 * i, 48_000 * i, pack(np.ones((16, 150), int)), None, 9, 0.5) for i in range(2)]
    for window in windows:
        queue.put(window, 0)
    assert queue.due_us(0) == 0
    assert [queue.take(130 * MS), queue.take(130 * MS)] == [[window.cut(4)] for window in windows]
    queue.put(packet(0), 140 * MS)
    assert queue.due_us(140 * MS) == 140 * MS
    queue.take(140 * MS)
    queue.put(windows[0], 141 * MS)
    assert queue.due_us(141 * MS) == 141 * MS + FRAME_US  # with the next frame of the one who talks


def test_traces_get_the_time_of_leaving() -> None:
    queue = SendQueue(HOP, FRAME_US)
    queue.put(packet(0, trace=Trace(1000, framed=1)), 5000)
    (sent,) = queue.take(21_000)
    assert sent.trace == Trace(1000, framed=1, relayed=200)


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 3), st.booleans()), max_size=150))
def test_every_frame_is_sent_once_in_order_or_counted_as_dropped(events: list[tuple[int, int, bool]]) -> None:
    queue, now, numbers = SendQueue(HOP, FRAME_US), 0, {1: 0, 2: 0, 3: 0}
    sent: dict[int, list[int]] = {1: [], 2: [], 3: []}
    for pause_ms, source, takes in [*events, (0, 1, True), *[(0, 1, True)] * 150]:
        now += pause_ms * MS // 4
        if takes:
            message = queue.take(now)
            assert len({media.source for media in message}) == len(message)
            for media in message:
                assert isinstance(media, Packet)
                sent[media.source] += range(media.sequence, media.sequence + media.frames)
        else:
            queue.put(packet(numbers[source], source), now)
            numbers[source] += 1
        assert queue.age_us(now) <= 250 * MS + 100 * MS
    assert queue.due_us(now) is None
    for frames in sent.values():
        assert frames == sorted(set(frames))
    assert sum(map(len, sent.values())) == queue.frames_sent
    assert queue.frames_sent + queue.frames_dropped == sum(numbers.values())
