"""What a line does to packets, in fake time."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.lab.netlab.impairment import Impairment
from earshot.lab.netlab.profiles import PROFILES, Profile

EVERY_S = 0.04


def carried(profile: Profile, seconds: float = 60, size: int = 140) -> list[tuple[float, float | None]]:
    """Returns when each packet was sent and came."""
    line = Impairment(profile, 1)
    times = np.arange(0, seconds, EVERY_S)
    return [(float(at), line.arrival(float(at), size)) for at in times]


def delays(profile: Profile) -> list[float]:
    return [came - at for at, came in carried(profile) if came is not None]


def test_delay_and_jitter_in_order() -> None:
    profile = Profile("x", "x", 30, 5)
    found = carried(profile)
    came = [at for _, at in found if at is not None]
    assert len(came) == len(found)
    assert came == sorted(came)
    assert np.median(delays(profile)) == pytest.approx(0.030, abs=0.002)
    assert 0.003 < np.std(delays(profile)) < 0.006


def test_loss() -> None:
    lost = sum(came is None for _, came in carried(Profile("x", "x", loss=0.03), 400))
    assert lost / (400 / EVERY_S) == pytest.approx(0.03, abs=0.006)


def test_a_rate_lets_packets_wait_and_loses_what_waits_too_long() -> None:
    fits, full = Profile("x", "x", rate_kbps=30), Profile("x", "x", rate_kbps=14, queue_ms=500)
    assert max(delays(fits)) == pytest.approx(140 * 8 / 30_000)
    found = carried(full)
    share = sum(came is not None for _, came in found) / len(found)
    assert share == pytest.approx(0.5, abs=0.02)
    assert 0.5 <= max(delays(full)) < 0.7


def test_a_stall_holds_back_and_a_cut_loses() -> None:
    stalls = delays(Profile("x", "x", stall_every_s=10, stall_ms=300))
    assert max(stalls) == pytest.approx(0.3, abs=EVERY_S)
    assert sum(delay > 0 for delay in stalls) == 5 * round(0.3 / EVERY_S + 0.5)
    cut = carried(Profile("x", "x", cut_every_s=15, cut_ms=1000))
    assert sum(came is None for _, came in cut) == 3 * 25


def test_profiles_have_names_of_their_own() -> None:
    assert len({profile.key for profile in PROFILES}) == len(PROFILES)
    whole = {profile.key for profile in PROFILES if profile.lossless}
    assert whole == {"lan", "dsl", "wifi", "rtt50", "4g", "satellite"}
