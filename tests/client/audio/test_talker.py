"""The encoder's thread: everything that is spoken is sent, in order, however late; what is too much
is counted."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from earshot.client.audio.endpoints import samples_us
from earshot.client.audio.talker import MAX_BLOCKS, Talker
from earshot.client.core.sender import Sender
from earshot.codec.pcm import Pcm, from_s16
from earshot.protocol.packet import PcmUp, decode_up


def block(value: float, n: int = 320) -> Pcm:
    return np.full(n, value, np.float32)


def talker(emit: Callable[[list[bytes]], None]) -> Talker:
    made = Talker(emit)
    made.sender = Sender("pcm")
    return made


def samples(messages: list[bytes]) -> Pcm:
    parts = [decode_up(message) for message in messages]
    return np.concatenate([from_s16(part.data) for part in parts if isinstance(part, PcmUp)])


def test_all_blocks_are_sent_in_order_with_the_partial_last_frame() -> None:
    sent: list[bytes] = []
    made = talker(sent.extend)
    sizes = [320, 100, 500, 240, 7, 333, 320]
    captured = 1_000_000
    for index, size in enumerate(sizes):  # all wait before the thread begins, so that it has to join them
        made.on_block(block((index + 1) / 10, size), captured)
        captured += samples_us(size)
    made.start()
    made.flush(10)
    made.stop()
    assert made.error is None
    expected = np.concatenate([block((index + 1) / 10, size) for index, size in enumerate(sizes)])
    heard = samples(sent)
    assert heard.size == -(-expected.size // 320) * 320
    assert np.abs(heard[: expected.size] - expected).max() < 1e-4
    assert not heard[expected.size :].any()


def test_a_gap_between_blocks_is_kept() -> None:
    sent: list[bytes] = []
    made = talker(sent.extend)
    made.on_block(block(0.1), 0)
    made.on_block(block(0.2), samples_us(320) + 500_000)
    made.start()
    made.flush(10)
    made.stop()
    first, second = (decode_up(message) for message in sent)
    assert second.timestamp - first.timestamp == 320 + 12_000


def test_too_many_blocks_lose_the_oldest() -> None:
    sent: list[bytes] = []
    made = talker(sent.extend)
    for index in range(MAX_BLOCKS + 5):
        made.on_block(block(index / 100), index * samples_us(320))
    assert made.blocks_dropped == 5
    made.start()
    made.flush(10)
    made.stop()
    heard = samples(sent).reshape(-1, 320)[:, 0]
    assert heard[0] == np.float32(round(0.05 * 32767) / 32768)
    assert len(heard) == MAX_BLOCKS


def test_without_a_connection_only_the_meter_moves() -> None:
    made = Talker(lambda messages: None)
    made.start()
    made.on_block(block(0.5), 0)
    made.flush(10)
    made.stop()
    assert made.level == 0.5
    assert made.blocks_unsent == 1


def test_what_goes_wrong_is_kept_for_the_call() -> None:
    failed = threading.Event()

    def emit(messages: list[bytes]) -> None:
        failed.set()
        raise RuntimeError("boom")

    made = talker(emit)
    made.start()
    made.on_block(block(0.5), 0)
    assert failed.wait(10)
    made.stop()
    assert str(made.error) == "boom"
