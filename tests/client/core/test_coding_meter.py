"""What a meter of coded packets tells of the last seconds."""

from __future__ import annotations

import pytest

from earshot.client.core.coding_meter import CodingMeter, CodingRates, CodingTotals


def test_meters_tell_the_last_seconds() -> None:
    meter = CodingMeter()
    assert meter.recent(5) == CodingRates()
    for tick in range(75 * 10):  # a second of 5 kB/s, cut in half, at a tenth of a core
        meter.add(CodingTotals(5, 2 if tick < 375 else 3, 1333), 1_000_000 + tick * 13_333)
    now = 1_000_000 + 75 * 10 * 13_333
    recent = meter.recent(now)
    assert recent.plain_kbps == pytest.approx(3.0, rel=0.02)
    assert recent.coded_kbps == pytest.approx(1.8, rel=0.02)
    assert recent.cpu_share == pytest.approx(0.1, rel=0.02)
    assert meter.recent(now + 10_000_000) == CodingRates()
    assert meter.total.coded_bytes == 375 * 5
