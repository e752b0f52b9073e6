"""What listeners count, and what is made of it."""

from __future__ import annotations

from typing import Any

import pytest

from earshot.lab.loadtest.plan import Findings, Plan, Row, row_of
from earshot.lab.loadtest.tally import Ear, Tally, percentile_ms
from earshot.lab.loadtest.wire import Arrival

FRAME_MS = 13.3


def test_gaps_are_lost_frames_also_where_numbers_wrap() -> None:
    ear, tally = Ear(), Tally()
    for sequence, frames in ((65_533, 1), (65_534, 2), (0, 1), (4, 2), (6, 1)):
        ear.hear(Arrival(1, sequence, frames, (133, 0, 140, 180)), tally)
    assert (tally.heard, tally.lost) == (7, 3)
    assert tally.added == {47: 5}
    assert tally.inside == {40: 5}


def test_frames_that_never_come_are_lost_once() -> None:
    ear, tally = Ear(), Tally()
    ear.hear(Arrival(1, 0, 10, None), tally)
    assert ear.overdue(80) == 0
    assert ear.overdue(100) == 15
    assert ear.overdue(100) == 0
    assert Ear().overdue(500) == 425


def test_percentiles() -> None:
    assert percentile_ms({10: 98, 500: 2}, 0.5) == 1.0
    assert percentile_ms({10: 98, 500: 2}, 0.98) == 1.0
    assert percentile_ms({10: 98, 500: 2}, 0.99) == 50.0
    assert percentile_ms({}, 0.5) is None


def test_tallies_survive_json_and_add_up() -> None:
    tally = Tally(3, 1)
    tally.added.update([5, 5, 7])
    total = Tally()
    for _ in range(2):
        total.add(Tally.from_json(tally.to_json()))
    assert (total.heard, total.lost, dict(total.added)) == (6, 2, {5: 4, 7: 2})


def test_steps_are_even() -> None:
    assert Plan(first=5, last=12, step=3).steps() == [6, 8, 12]


def stats(steps: int, frames: int, cpu_s: float, uptime_s: float, slack: float | None) -> dict[str, Any]:
    worker = {"steps": steps, "frames": frames, "slack_ms": {"p50": slack, "p99": slack}}
    return {"workers": worker, "cpu_s": cpu_s, "uptime_s": uptime_s}


def test_a_row_is_the_difference_that_a_step_made() -> None:
    tally = Tally(100, 0)
    tally.added.update({40: 99, 90: 1})
    reports = [{"cpu": 0.1, "closed": []}, {"cpu": 0.2, "closed": []}]
    row = row_of(8, tally, reports, stats(10, 50, 1.0, 5.0, None), stats(30, 150, 3.0, 9.0, 2.5), "")
    assert (row.added_p50, row.added_p99, row.batch_mean, row.server_cpu, row.slack_p99) == (4.0, 4.0, 5.0, 0.5, 2.5)
    assert row.generator_cpu == pytest.approx(0.3)
    assert row.fault(FRAME_MS) == ""


def row(speakers: int, p99: float | None = 5.0, **more: Any) -> Row:
    fields: dict[str, Any] = {"heard": 100, "lost": 0, "server_cpu": 1.0, "generator_cpu": 0.1, "late_p99": 0.5}
    fields |= {"batch_mean": 3.0, "slack_p50": 9.0, "slack_p99": 4.0, **more}
    return Row(speakers, 2.0, 3.0, p99, p99, **fields)


@pytest.mark.parametrize(
    ("one_too_many", "said"),
    [
        (row(40, 14.0), "p99 is not below 13.3 ms"),
        (row(40, lost=3), "3 frames lost"),
        (row(40, None, heard=0), "nothing was heard"),
        (row(40, closed="1, first with 4009 slow"), "closed: 1, first with 4009 slow"),
    ],
)
def test_the_test_is_over_when_a_step_was_one_too_many(one_too_many: Row, said: str) -> None:
    findings = Findings("tiny", "0" * 16, 6.0, FRAME_MS, 2, [row(20)])
    assert not findings.over
    findings.rows.append(one_too_many)
    assert one_too_many.fault(FRAME_MS) == said
    assert (findings.over, findings.held, findings.refused_above) == (True, 20, None)


def test_a_refusal_ends_the_test_and_is_no_fault() -> None:
    findings = Findings("tiny", "0" * 16, 6.0, FRAME_MS, 2, [row(20), row(34, refused="4013: busy")])
    assert (findings.over, findings.held, findings.refused_above) == (True, 34, 34)
    assert findings.to_json()["rows"][1]["fault"] == ""
