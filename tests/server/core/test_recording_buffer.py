"""What is recorded between two writes."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.codec.bitstream import pack
from earshot.codec.config import LITE_24KHZ
from earshot.protocol.packet import Packet, Trace
from earshot.recording.format import MAX_FRAMES, Event, Spoken
from earshot.server.core.recording_buffer import MAX_EVENTS, Batch, RecordingBuffer
from tests.peers import tiny_model
from tests.recordings import HOP, SALT, codes_of, header, packets, read

BEGAN = 5_000_000


@pytest.fixture
def buffer() -> RecordingBuffer:
    return RecordingBuffer(LITE_24KHZ, BEGAN)


def some(frames: int, n_q: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1024, (n_q, frames))


def parts(batch: Batch | None) -> list[Spoken]:
    from earshot.recording.format import encode_header

    assert batch is not None
    items = read(encode_header(header(tiny_model())) + batch.encode(SALT))
    return [item for item in items if isinstance(item, Spoken)]


def test_frames_are_joined_and_exact(buffer: RecordingBuffer) -> None:
    codes = some(50)
    for index, packet in enumerate(packets(codes, timestamp=(1 << 32) - 10 * HOP)):
        buffer.add(3, packet, BEGAN + 1_000_000 + index * 13_333)
    (part,) = parts(buffer.take(BEGAN))
    assert (part.speaker, part.n_q, part.frames, part.timestamp) == (3, 8, 50, (1 << 32) - 10 * HOP)
    np.testing.assert_array_equal(part.codes(), codes)
    assert buffer.take(BEGAN) is None


def test_a_record_begins_when_its_fastest_frame_says(buffer: RecordingBuffer) -> None:
    late = [90_000, 40_000, 5_000, 60_000]
    for index, packet in enumerate(packets(some(4))):
        buffer.add(1, packet, BEGAN + 2_000_000 + (index + 1) * 13_333 + late[index])
    (part,) = parts(buffer.take(BEGAN))
    assert abs(part.start_us - 2_005_000) <= 100


def test_packets_of_several_frames_and_a_new_rate(buffer: RecordingBuffer) -> None:
    codes = some(12)
    sizes, at = (3, 1, 5, 3), 0
    for size in sizes:
        n_q = 8 if at < 4 else 2
        piece = codes[:n_q, at : at + size]
        buffer.add(1, Packet(n_q, size, at, at * HOP, pack(piece), Trace(1)), BEGAN)
        at += size
    first, second = parts(buffer.take(BEGAN))
    np.testing.assert_array_equal(first.codes(), codes[:, :4])
    np.testing.assert_array_equal(second.codes(), codes[:2, 4:])
    assert second.timestamp == 4 * HOP


def test_gaps_and_lengths_end_a_record(buffer: RecordingBuffer) -> None:
    codes = some(2 * MAX_FRAMES + 20)
    for index, packet in enumerate(packets(codes)):
        if index not in (5, 6):
            buffer.add(1, packet, BEGAN)
    found = parts(buffer.take(BEGAN))
    assert [part.frames for part in found] == [5, MAX_FRAMES, MAX_FRAMES, 13]
    frames = codes_of(found, 1)
    assert sorted(frames) == [index * HOP for index in range(codes.shape[1]) if index not in (5, 6)]


def test_the_rate_that_is_kept_can_be_limited() -> None:
    buffer, codes = RecordingBuffer(LITE_24KHZ, BEGAN, max_n_q=2), some(9)
    for packet in packets(codes):
        buffer.add(1, packet, BEGAN)
    (part,) = parts(buffer.take(BEGAN))
    np.testing.assert_array_equal(part.codes(), codes[:2])


def test_what_could_not_be_written_is_noted_and_events_are_kept(buffer: RecordingBuffer) -> None:
    buffer.note(Event(type="joined", at=0, peer=1, name="Ada"), BEGAN)
    for packet in packets(some(10)):
        buffer.add(1, packet, BEGAN + 1)
    batch = buffer.take(BEGAN + 700_000)
    assert batch is not None
    assert batch.frames == 10
    buffer.give_back(batch)
    buffer.note(Event(type="left", at=0, peer=1), BEGAN + 800_000)
    again = buffer.take(BEGAN + 1_400_000)
    assert again is not None
    assert [event.type for event in again.events] == ["joined", "left"]
    assert (again.lost, again.frames) == (10, 0)
    buffer.give_back(again)
    for _ in range(2 * MAX_EVENTS):
        buffer.note(Event(type="muted", at=0, peer=1), BEGAN)
        full = buffer.take(BEGAN)
        assert full is not None
        assert full.lost == 10
        buffer.give_back(full)
    last = buffer.take(BEGAN)
    assert last is not None
    assert len(last.events) == MAX_EVENTS
    assert last.events[0].type == "joined"
