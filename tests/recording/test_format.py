"""The bytes of a recording: reading returns what was written, and damage loses only the records
that it hits."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.codec.bitstream import pack
from earshot.codec.errors import AudioError, UsageError
from earshot.codec.model.model import Model
from earshot.recording.format import (
    HEAD_SEARCH,
    MAGIC,
    MAX_BODY,
    MAX_FRAMES,
    Damage,
    Event,
    Header,
    Item,
    Reader,
    Spoken,
    clamp_ticks,
    encode_event,
    encode_header,
    encode_spoken,
)
from tests.recordings import SALT, header, read


def spoken(seed: int, n_q: int = 8, frames: int = 52) -> Spoken:
    codes = np.random.default_rng(seed).integers(0, 1024, (n_q, frames))
    return Spoken(1 + seed % 3, n_q, frames, seed * 7919 % (1 << 32), seed * 7000 - 133, pack(codes))


@pytest.fixture(scope="module")
def items(tiny_model: Model) -> list[Item]:
    return [
        header(tiny_model),
        Event(type="joined", at=0, peer=1, name="Ada"),
        *(spoken(seed, n_q=2, frames=4) for seed in range(3)),
        Event(type="muted", at=70_000, peer=1),
        spoken(3, n_q=4, frames=1),
        Event(type="ended", at=99_999, reason="everyone had left"),
    ]


def encode(item: Item) -> bytes:
    match item:
        case Header():
            return encode_header(item)
        case Event():
            return encode_event(item, SALT)
        case Spoken():
            return encode_spoken(item, SALT)
    raise AssertionError(item)


@pytest.fixture(scope="module")
def records(items: list[Item]) -> list[bytes]:
    return [encode(item) for item in items]


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_what_is_written_is_read(items: list[Item], records: list[bytes], piece: int) -> None:
    assert read(b"".join(records), piece) == items


def test_the_largest_record_fits(tiny_model: Model) -> None:
    codes = np.random.default_rng(0).integers(0, 1024, (32, MAX_FRAMES))
    part = Spoken(65_535, 32, MAX_FRAMES, (1 << 32) - 1, -(1 << 31), pack(codes))
    data = encode_header(header(tiny_model, n_codebooks=32)) + encode_spoken(part, SALT)
    assert read(data)[1:] == [part]
    np.testing.assert_array_equal(part.codes(), codes)
    with pytest.raises(UsageError, match="frames in a record"):
        encode_spoken(Spoken(1, 1, MAX_FRAMES + 1, 0, 0, b""), SALT)


@given(st.integers(1, 16), st.integers(1, MAX_FRAMES), st.integers(0, (1 << 32) - 1), st.integers(-(1 << 31), 1 << 30))
def test_any_shape_is_read(tiny_model: Model, n_q: int, frames: int, timestamp: int, start: int) -> None:
    part = Spoken(7, n_q, frames, timestamp, start, pack(np.full((n_q, frames), 1023)))
    assert read(encode_header(header(tiny_model)) + encode_spoken(part, SALT))[1:] == [part]


def test_cut_at_every_byte_what_was_whole_is_read(items: list[Item], records: list[bytes]) -> None:
    data, ends = b"".join(records), np.cumsum([len(record) for record in records])
    one_header = len(MAGIC) + (len(records[0]) - len(MAGIC)) // 2
    for length in range(len(data)):
        if length < one_header:
            with pytest.raises(AudioError, match="it is no recording"):
                read(data[:length])
            continue
        whole = max(int(np.searchsorted(ends, length, "right")), 1)
        rest = length - int(ends[whole - 1])
        expected: list[Item] = list(items[:whole])
        if length < ends[0]:  # the second header is cut
            rest = length - one_header
        if rest:
            expected.append(Damage(length - rest, rest))
        assert read(data[:length]) == expected


def test_a_damaged_record_costs_no_other(items: list[Item], records: list[bytes]) -> None:
    """Flips each bit of each record in turn."""
    for hit in range(1, len(records)):
        before = sum(len(record) for record in records[:hit])
        for at in range(len(records[hit])):
            data = bytearray(b"".join(records))
            data[before + at] ^= 1 << at % 8
            expected: list[Item] = [*items[:hit], Damage(before, len(records[hit])), *items[hit + 1 :]]
            found = read(bytes(data))
            assert found == expected, (hit, at)


def test_one_header_of_two_is_enough(items: list[Item], records: list[bytes]) -> None:
    half = (len(records[0]) - len(MAGIC)) // 2
    for at in range(len(records[0])):
        data = bytearray(b"".join(records))
        data[at] ^= 0xFF
        found = read(bytes(data))
        assert [item for item in found if not isinstance(item, Damage)] == items
        damaged = sum(item.size for item in found if isinstance(item, Damage))
        assert 0 < damaged <= half + len(MAGIC)


def test_mutated_recordings_give_records_or_documented_errors(items: list[Item], records: list[bytes]) -> None:
    """Reading returns what was written or nothing: no mutation makes a record that nobody wrote."""
    rng, whole = random.Random(5), b"".join(records)
    written = set(map(repr, items))
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            at, kind = rng.randrange(len(data) + 1), rng.random()
            if kind < 0.4:
                data[at : at + 1] = bytes([rng.randrange(256)])
            elif kind < 0.6:
                del data[at : at + rng.randint(1, 40)]
            elif kind < 0.8:
                data[at:at] = rng.randbytes(rng.randint(1, 40))
            else:
                start = rng.randrange(len(whole))
                data[at:at] = whole[start : start + rng.randint(1, 200)]
        try:
            found = read(bytes(data), rng.choice([13, 1 << 16]))
        except AudioError:
            continue
        assert {repr(item) for item in found if not isinstance(item, Damage)} <= written


def test_what_speakers_say_cannot_look_like_a_record(tiny_model: Model) -> None:
    """Damages a record whose codes hold a whole record, made without knowing the salt."""
    inner = encode_event(Event(type="ended", at=1, reason="forged"), 0) + bytes(40)
    outer = bytearray(encode_spoken(Spoken(1, 4, len(inner) // 5, 0, 0, inner[: len(inner) // 5 * 5]), SALT))
    outer[5] ^= 1
    after = Event(type="left", at=2, peer=1)
    found = read(encode_header(header(tiny_model)) + bytes(outer) + encode_event(after, SALT))
    assert [type(item) for item in found] == [Header, Damage, Event]


def test_a_later_version_is_named(tiny_model: Model) -> None:
    with pytest.raises(AudioError, match="version 2 of the format"):
        read(encode_header(header(tiny_model, version=2)))


@pytest.mark.parametrize("data", [b"", b"ESHT", MAGIC, MAGIC * 40, b"\xa7\x01" * 500, bytes(1 << 18), b"RIFF" * 3000])
def test_other_files_are_no_recordings(data: bytes) -> None:
    with pytest.raises(AudioError, match="it is no recording"):
        read(data)


def test_a_reader_holds_little(records: list[bytes]) -> None:
    """This also holds if every second byte looks like the beginning of a long record."""
    reader = Reader()
    list(reader.feed(records[0]))
    for _ in range(20):
        list(reader.feed(b"\xa7\x03\x00\x10" * (1 << 12)))
        assert len(reader._buffer) <= MAX_BODY + 8
    with pytest.raises(AudioError, match="no recording"):
        list(Reader().feed(bytes(2 * HEAD_SEARCH)))


def test_times_stay_within_their_bits() -> None:
    assert clamp_ticks(-150) == -2
    assert clamp_ticks(1 << 60) == (1 << 31) - 1
    assert clamp_ticks(-(1 << 60)) == -(1 << 31)


def test_names_are_fit_for_a_terminal(tiny_model: Model) -> None:
    body = json.dumps({"type": "joined", "at": 0, "peer": 1, "name": "\x1b[2J"})
    evil = Event.model_construct(type="joined", at=0, peer=1, name="\x1b[2J")
    assert "\\u001b" in body
    found = read(encode_header(header(tiny_model)) + encode_event(evil, SALT))
    assert [type(item) for item in found] == [Header, Damage]
