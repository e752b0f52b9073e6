from __future__ import annotations

import pytest

from earshot.client.core.traffic import MESSAGE_OVERHEAD_BYTES, Traffic

FRAME_US = 320 * 1e6 / 24_000


def test_rates_of_six_kbps_in_single_frames() -> None:
    traffic = Traffic(24_000)
    for index in range(750):
        traffic.add(round(index * FRAME_US), 1, 320, 80, 20)
    assert traffic.codec_kbps == pytest.approx(6.0)
    assert traffic.wire_kbps == pytest.approx((20 + MESSAGE_OVERHEAD_BYTES) * 8 * 75 / 1000)
    assert traffic.recent_codec_kbps == pytest.approx(6.0)
    assert traffic.recent_wire_kbps(round(749 * FRAME_US)) == pytest.approx(traffic.wire_kbps, rel=0.01)
    assert (traffic.frames, traffic.messages, traffic.codec_bits) == (750, 750, 60_000)


def test_recent_rates_follow_a_change_and_the_end() -> None:
    traffic = Traffic(24_000)
    for index in range(300):
        traffic.add(round(index * FRAME_US), 1, 320, 80 if index < 150 else 160, 30)
    assert traffic.recent_codec_kbps == pytest.approx(12.0, rel=0.02)
    assert traffic.codec_kbps == pytest.approx(9.0)
    assert traffic.recent_wire_kbps(round(300 * FRAME_US) + 3_000_000) == 0


def test_nothing_sent_is_no_rate_and_memory_is_bounded() -> None:
    traffic = Traffic(24_000)
    assert (traffic.codec_kbps, traffic.wire_kbps, traffic.recent_codec_kbps, traffic.recent_wire_kbps(5)) == (0,) * 4
    for _ in range(10_000):
        traffic.add(0, 1, 320, 80, 20)
    assert len(traffic._recent) <= 4096
    assert traffic.recent_codec_kbps == pytest.approx(6.0)
