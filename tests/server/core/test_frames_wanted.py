"""A listener that asks for several frames in a message, in fake time."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.codec.bitstream import pack, unpack
from earshot.protocol.packet import Packet, PcmBlock, Trace
from earshot.protocol.silence import BANDS, Silence
from earshot.server.core.send_queue import MORE_FRAMES_US, Media, SendQueue

HOP = 320
FRAME_US = 13_333


def packet(number: int, source: int = 1, frames: int = 1, trace: Trace | None = None) -> Packet:
    codes = np.arange(number, number + frames).reshape(1, -1).repeat(4, axis=0) % 1024
    return Packet(4, frames, number % 65_536, number * HOP, pack(codes), trace, source)


def numbers(media: Media) -> list[int]:
    assert isinstance(media, Packet)
    return [int(code) for code in unpack(media.payload, media.n_q, media.frames)[0]]


def run(queue: SendQueue, coming: dict[int, list[Media]], until_us: int) -> list[tuple[int, list[Media]]]:
    """Puts media in at their times, and takes what is due as soon as it is."""
    taken: list[tuple[int, list[Media]]] = []
    for now in range(0, until_us, 1000):
        for media in coming.pop(now, []):
            queue.put(media, now)
        while (due := queue.due_us(now)) is not None and due <= now:
            taken.append((now, queue.take(now)))
    assert not coming
    return taken


@pytest.mark.parametrize("frames", [1, 3, 6, 8])
def test_a_lone_speakers_frames_go_together_once_the_last_is_there(frames: int) -> None:
    coming: dict[int, list[Media]] = {13_000 * number: [packet(number)] for number in range(48)}
    taken = run(SendQueue(HOP, FRAME_US, frames=frames), coming, 800_000)
    assert [numbers(media) for _, (media,) in taken] == np.arange(48).reshape(-1, frames).tolist()
    assert [now for now, _ in taken] == [13_000 * number for number in range(frames - 1, 48, frames)]


def test_what_does_not_come_is_waited_for_no_longer_than_it_lasts() -> None:
    taken = run(SendQueue(HOP, FRAME_US, frames=3), {0: [packet(0)], 200_000: [packet(15)]}, 400_000)
    assert [(now, numbers(media)) for now, (media,) in taken] == [(40_000, [0]), (240_000, [15])]


@pytest.mark.parametrize(("wanted", "expected"), [(1, 3), (3, 3), (4, 3), (5, 3), (6, 6), (8, 6)])
def test_packets_are_neither_split_nor_joined_beyond_what_is_wanted(wanted: int, expected: int) -> None:
    coming: dict[int, list[Media]] = {40_000 * number: [packet(3 * number, frames=3)] for number in range(8)}
    taken = run(SendQueue(HOP, FRAME_US, frames=wanted), coming, 400_000)
    assert {len(numbers(media)) for _, (media,) in taken} == {expected}
    if expected == 3:
        assert [now for now, _ in taken] == [40_000 * number for number in range(8)]  # nothing waits


def test_two_speakers_share_messages() -> None:
    coming: dict[int, list[Media]] = {}
    for number in range(30):
        coming[13_000 * number] = [packet(number, 1)]
        coming[13_000 * number + 5000] = [packet(number, 2)]
    taken = run(SendQueue(HOP, FRAME_US, frames=3), coming, 500_000)
    assert len(taken) == 10
    assert all([media.source for media in message] == [1, 2] for _, message in taken)


def test_silence_lets_what_waits_go_at_once_and_comes_behind_it() -> None:
    silence = Silence(1, HOP, bytes(BANDS), 1)
    taken = run(SendQueue(HOP, FRAME_US, frames=6), {0: [packet(0)], 13_000: [silence]}, 100_000)
    assert taken == [(13_000, [packet(0)]), (13_000, [silence])]


def test_nobody_waits_for_a_silent_speaker() -> None:
    silence = Silence(1, HOP, bytes(BANDS), 1)
    coming: dict[int, list[Media]] = {0: [packet(0, 1)], 13_000: [silence]}
    coming |= {26_000 + 13_000 * number: [packet(number, 2)] for number in range(3)}
    taken = run(SendQueue(HOP, FRAME_US, frames=3), coming, 100_000)
    assert [now for now, _ in taken] == [13_000, 13_000, 52_000]


def test_waiting_for_more_frames_is_no_reason_to_cut() -> None:
    coming: dict[int, list[Media]] = {13_000 * number: [packet(number)] for number in range(240)}
    queue = SendQueue(HOP, FRAME_US, frames=8)
    taken = run(queue, coming, 4_000_000)
    assert (queue.frames_dropped, queue.codebooks_cut) == (0, 0)
    assert {len(numbers(media)) for _, (media,) in taken} == {8}  # and none of them joined to more


def test_more_frames_come_one_by_one_and_fewer_at_once() -> None:
    queue = SendQueue(HOP, FRAME_US)
    coming: dict[int, list[Media]] = {13_000 * number: [packet(number)] for number in range(480)}
    late = {now: media for now, media in coming.items() if now > 4_000_000}
    queue.set_frames(6)
    taken = run(queue, {now: media for now, media in coming.items() if now <= 4_000_000}, 4_000_000)
    sizes = [len(numbers(media)) for _, (media,) in taken]
    assert sizes == sorted(sizes)
    assert set(sizes) == {1, 2, 3, 4, 5, 6}
    first = [next(now for (now, _), size in zip(taken, sizes, strict=True) if size == wanted) for wanted in range(2, 7)]
    assert np.diff(first).min() >= MORE_FRAMES_US - 6 * FRAME_US
    queue.set_frames(1)
    for now, media in sorted(late.items()):
        queue.put(media[0], now)
        while (due := queue.due_us(now)) is not None and due <= now:
            assert len(queue.take(now)) == 1
    assert queue.due_us(now) is None


def test_a_trace_of_a_later_frame_is_moved_to_the_first() -> None:
    queue = SendQueue(HOP, FRAME_US, frames=3)
    trace = Trace(capture_us=20_000, framed=133, encoded=140, received=150)
    for number in range(3):
        queue.put(packet(number, trace=trace if number == 1 else None), 50_000)
    (joined,) = queue.take(60_000)
    assert isinstance(joined, Packet)
    assert joined.trace == Trace(20_000 - FRAME_US, 133, 140 + 133, 150 + 133, (60_000 - 20_000 + FRAME_US) // 100)
    queue.put(packet(3), 70_000)
    queue.put(packet(4), 70_000)
    queue.put(packet(5), 70_000)
    (joined,) = queue.take(70_000)
    assert joined.trace is None


def test_pcm_is_joined_too() -> None:
    blocks = [PcmBlock(1, number, number * HOP, np.full(HOP, number, "<i2").tobytes()) for number in range(6)]
    coming: dict[int, list[Media]] = {13_000 * number: [block] for number, block in enumerate(blocks)}
    taken = run(SendQueue(HOP, FRAME_US, frames=3), coming, 200_000)
    assert [media.sequence for _, (media,) in taken] == [0, 3]
    assert [len(media.data) for _, (media,) in taken if isinstance(media, PcmBlock)] == [6 * HOP] * 2
