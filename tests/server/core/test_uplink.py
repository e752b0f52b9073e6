"""A speaker's way in, in fake time."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.codec.bitstream import pack
from earshot.codec.config import ENCODEC_48KHZ, LITE_24KHZ
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.messages import WindowModel
from earshot.protocol.packet import Packet, PcmFormat, PcmUp, Trace
from earshot.server.core.uplink import FORGET_US, Uplink

HOP = 320
FRAME_US = 13_333
BURST_MS = 2000.0


@pytest.fixture
def uplink() -> Uplink:
    return Uplink(LITE_24KHZ, BURST_MS, now_us=0)


def packet(number: int, timestamp: int | None = None, frames: int = 1, trace: Trace | None = None) -> Packet:
    at = number * HOP if timestamp is None else timestamp
    return Packet(4, frames, number % 65536, at % (1 << 32), pack(np.ones((4, frames), int)), trace)


def pcm(samples: np.ndarray, number: int, timestamp: int, trace: Trace | None = None) -> PcmUp:
    return PcmUp(PcmFormat.F32, number % 65536, timestamp % (1 << 32), samples.astype("<f4").tobytes(), trace)


@pytest.mark.parametrize("start", [0, 65_530, (1 << 32) // HOP - 3])
def test_codes_pass_unchanged_over_every_wrap(uplink: Uplink, start: int) -> None:
    for index in range(0, 20, 2):
        sent = packet(start + index, frames=2)
        assert uplink.codes(sent, False, index * FRAME_US) is sent
    assert (uplink.frames_received, uplink.frames_discarded) == (20, 0)


@pytest.mark.parametrize(
    "late",
    [
        packet(9),
        packet(0),
        packet(10 - 30_000),
        packet(10 + 30_000),
        packet(10, timestamp=1 << 30),
        packet(10, timestamp=0),
        packet(9, frames=3),
    ],
    ids=["twice", "old", "ancient", "future sequence", "future time", "time goes back", "overlapping"],
)
def test_what_does_not_follow_is_discarded_and_the_stream_goes_on(uplink: Uplink, late: Packet) -> None:
    for number in range(10):
        assert uplink.codes(packet(number), False, number * FRAME_US)
    assert uplink.codes(late, False, 10 * FRAME_US) is None
    assert uplink.frames_discarded == late.frames
    assert uplink.codes(packet(10), False, 10 * FRAME_US)


def test_losses_and_pauses_are_gaps_that_may_be_as_long_as_the_time_that_passed(uplink: Uplink) -> None:
    assert uplink.codes(packet(0), False, 0)
    assert uplink.codes(packet(20), False, 20 * FRAME_US)
    assert uplink.codes(packet(21, timestamp=21 * HOP + 3600 * 24_000), False, 3600 * 1_000_000)
    assert uplink.frames_discarded == 0


def test_after_half_a_day_of_silence_any_timestamp_is_taken(uplink: Uplink) -> None:
    assert uplink.codes(packet(0), False, 0)
    assert uplink.codes(packet(1, timestamp=(1 << 31) + 5), False, FORGET_US - 1) is None
    assert uplink.codes(packet(1, timestamp=(1 << 31) + 5), False, FORGET_US)


def test_ten_times_real_time_is_refused_once_the_burst_is_used_up(uplink: Uplink) -> None:
    with pytest.raises(ProtocolError) as refused:  # noqa: PT012
        for number in range(1000):
            uplink.codes(packet(number), False, number * FRAME_US // 10)
    assert refused.value.code == CloseCode.FASTER_THAN_REAL_TIME
    assert 150 <= number <= 170


def test_real_time_on_a_fast_clock_is_never_refused(uplink: Uplink) -> None:
    for number in range(20_000):
        assert uplink.codes(packet(number), False, int(number * FRAME_US * 0.999))


def test_more_codebooks_than_the_model_has(uplink: Uplink) -> None:
    with pytest.raises(ProtocolError) as refused:
        uplink.codes(Packet(17, 1, 0, 0, pack(np.ones((17, 1), int))), False, 0)
    assert refused.value.code == CloseCode.MODEL_MISMATCH


@pytest.mark.parametrize("block", [1, 7, 160, 320, 333, 960, 4096])
def test_pcm_becomes_the_same_frames_however_it_is_cut(block: int) -> None:
    uplink = Uplink(LITE_24KHZ, 1e6, now_us=0)
    samples = np.random.default_rng(0).uniform(-1, 1, HOP * 20).astype(np.float32)
    frames = []
    for number, at in enumerate(range(0, samples.size, block)):
        frames += uplink.pcm(pcm(samples[at : at + block], number, at + 77), False, at)
    np.testing.assert_array_equal(np.concatenate([frame.pcm for frame in frames]), samples)
    assert [frame.sequence for frame in frames] == list(range(20))
    assert [frame.timestamp for frame in frames] == [77 + HOP * index for index in range(20)]


def test_sixteen_bit_samples(uplink: Uplink) -> None:
    data = np.array([-32768, 0, 16384] * HOP, "<i2").tobytes()
    frames = uplink.pcm(PcmUp(PcmFormat.S16, 0, 0, data), False, 0)
    assert len(frames) == 3
    np.testing.assert_array_equal(frames[0].pcm[:3], [-1.0, 0.0, 0.5])


def test_a_message_that_is_just_a_frame_of_sixteen_bit_samples_goes_on_as_it_came(uplink: Uplink) -> None:
    data, trace = np.arange(HOP, dtype="<i2").tobytes(), Trace(1_000_000, framed=133)
    (frame,) = uplink.pcm(PcmUp(PcmFormat.S16, 0, 7, data, trace), False, 1_020_000)
    assert frame == (data, 0, 7, Trace(1_000_000, framed=133, received=200))
    assert not uplink.pcm(PcmUp(PcmFormat.S16, 1, 7 + HOP, data[:200]), False, 1_030_000)
    cut = uplink.pcm(PcmUp(PcmFormat.S16, 2, 7 + HOP + 100, data), False, 1_040_000)
    assert [(one.sequence, one.timestamp) for one in cut] == [(1, 7 + HOP)]
    np.testing.assert_array_equal(cut[0].pcm, np.r_[np.arange(100), np.arange(HOP - 100)] / np.float32(32768))


def test_traces_say_when_each_frame_was_captured_completed_and_received(uplink: Uplink) -> None:
    first, second = Trace(1_000_000, framed=250), Trace(1_025_000, framed=100)
    frames = uplink.pcm(pcm(np.zeros(600), 0, 0, first), False, 1_040_000)
    frames += uplink.pcm(pcm(np.zeros(360), 1, 600, second), False, 1_060_000)
    traces = [frame.trace for frame in frames]
    assert [trace.capture_us for trace in traces if trace] == [1_000_000, 1_013_333, 1_026_666]
    assert [trace.framed for trace in traces if trace] == [250, 216, 83]
    assert [trace.received for trace in traces if trace] == [400, 466, 333]


def test_a_pause_within_a_frame_is_filled_with_silence(uplink: Uplink) -> None:
    assert not uplink.pcm(pcm(np.ones(100), 0, 0), False, 0)
    frames = uplink.pcm(pcm(np.ones(HOP), 1, 5 * HOP), False, 5 * FRAME_US)
    assert [frame.timestamp for frame in frames] == [0, 5 * HOP]
    assert [frame.sequence for frame in frames] == [0, 1]
    np.testing.assert_array_equal(frames[0].pcm, np.r_[np.ones(100), np.zeros(220)])
    np.testing.assert_array_equal(frames[1].pcm, np.ones(HOP))


def test_a_pause_shorter_than_the_frame_stays_inside_it(uplink: Uplink) -> None:
    uplink.pcm(pcm(np.ones(100), 0, 0), False, 0)
    frames = uplink.pcm(pcm(np.ones(120), 1, 200), False, FRAME_US)
    assert len(frames) == 1
    np.testing.assert_array_equal(frames[0].pcm, np.r_[np.ones(100), np.zeros(100), np.ones(120)])


def test_pcm_messages_that_were_lost_leave_a_gap_in_the_sequence(uplink: Uplink) -> None:
    uplink.pcm(pcm(np.zeros(HOP), 0, 0), False, 0)
    frames = uplink.pcm(pcm(np.zeros(HOP), 4, 4 * HOP), False, 4 * FRAME_US)
    assert [frame.sequence for frame in frames] == [4]


def test_impossible_samples_are_replaced_and_counted(uplink: Uplink) -> None:
    samples = np.zeros(HOP)
    samples[:3] = [np.nan, np.inf, 1e20]
    (frame,) = uplink.pcm(pcm(samples, 0, 0), False, 0)
    assert np.isfinite(frame.pcm).all()
    assert uplink.samples_replaced == 3


def test_what_comes_while_muted_is_discarded_with_the_frame_it_was_part_of(uplink: Uplink) -> None:
    uplink.pcm(pcm(np.ones(100), 0, 0), False, 0)
    assert not uplink.pcm(pcm(np.ones(HOP), 1, 100), True, 0)
    frames = uplink.pcm(pcm(np.zeros(HOP), 2, 420), False, 0)
    np.testing.assert_array_equal(frames[0].pcm, np.zeros(HOP))
    assert (uplink.frames_discarded, frames[0].timestamp) == (1, 420)


MUSIC = WindowModel.of(ENCODEC_48KHZ, "f" * 16)
STRIDE, STRIDE_US = 47_520, 990_000


def window(number: int, frames: int = 150, timestamp: int | None = None, scale: float | None = 0.5) -> Packet:
    at = number * STRIDE if timestamp is None else timestamp
    return Packet(2, frames, number * 150 % 65_536, at % (1 << 32), pack(np.ones((2, frames), int)), scale=scale)


def test_windows_overlap_and_follow_each_other_in_real_time() -> None:
    uplink = Uplink(MUSIC, 100.0, now_us=0)  # less of a burst than a window lasts
    for number in range(1000):
        sent = window(number)
        assert uplink.codes(sent, False, int((number + 1) * STRIDE_US * 0.999)) is sent
    assert uplink.codes(window(1000, 149), False, 1001 * STRIDE_US)  # the end of a signal is two short windows
    last = window(0, 1, timestamp=1001 * STRIDE)._replace(sequence=(1000 * 150 + 149) % 65_536)
    assert uplink.codes(last, False, 1001 * STRIDE_US)
    assert uplink.codes(last._replace(timestamp=0), False, 1001 * STRIDE_US) is None
    assert (uplink.frames_received, uplink.frames_discarded) == (1000 * 150 + 149 + 2, 1)


def test_windows_faster_than_real_time_are_refused() -> None:
    uplink = Uplink(MUSIC, BURST_MS, now_us=0)
    with pytest.raises(ProtocolError) as refused:  # noqa: PT012
        for number in range(10):
            uplink.codes(window(number), False, 0)
    assert refused.value.code == CloseCode.FASTER_THAN_REAL_TIME
    assert number == 3  # the one that has just come to its end, and two seconds ahead


def test_frames_and_windows_are_not_mixed(uplink: Uplink) -> None:
    with pytest.raises(ProtocolError, match="one or the other"):
        uplink.codes(window(0, 1), False, 0)
    music = Uplink(MUSIC, BURST_MS, now_us=0)
    for wrong, code in (
        (window(0, 30, scale=None), CloseCode.MALFORMED),
        (window(0, 151), CloseCode.MODEL_MISMATCH),
        (Packet(17, 1, 0, 0, pack(np.ones((17, 1), int)), scale=1.0), CloseCode.MODEL_MISMATCH),
    ):
        with pytest.raises(ProtocolError) as refused:
            music.codes(wrong, False, 0)
        assert refused.value.code == code
