"""What counts as suffering under an attack."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from earshot.lab.attacks.report import details, table
from earshot.lab.attacks.results import Row, counted
from earshot.lab.attacks.stranger import close_code

GOOD = Row("pings", (0, 1), (0, 0), 0, 20.0, 0, 0.2, (), 0.1, (), {"ended": {"4005": 3}}, {"closed.4005": 3})


def test_a_row_within_all_limits_has_no_fault() -> None:
    assert GOOD.faults() == []
    assert replace(GOOD, attack="nothing", counted={}).faults() == []


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"underruns": (0, 2)}, "underruns"),
        ({"underruns": ()}, "underruns"),
        ({"reconnects": 1}, "a talker lost its connection"),
        ({"added_p99_ms": 26.7}, "p99"),
        ({"added_p99_ms": None}, "p99"),
        ({"join_s": 1.1}, "newcomer"),
        ({"join_failures": ("refused",)}, "newcomer"),
        ({"health_s": None}, "healthz"),
        ({"health_failures": ("timed out",)}, "healthz"),
        ({"counted": {"closed.1006": 9}}, "not limited"),
        ({"fault": "gone"}, "gone"),
    ],
)
def test_each_limit_that_is_passed_is_named(changed: dict[str, object], fault: str) -> None:
    assert replace(GOOD, **changed).faults() == [fault]  # type: ignore[arg-type]


def test_only_counters_that_grew_and_are_not_of_honest_clients_are_named() -> None:
    before = {"uptime_s": 1.0, "closed": {"4005": 2}, "door": {"late": 1, "open": 1}, "connections": 3}
    after = {"uptime_s": 9.0, "closed": {"4005": 5, "4013": 4}, "door": {"late": 3, "open": 9}, "connections": 90}
    assert counted(before, after, {4013: 4}) == {"closed.4005": 3, "door.late": 2}


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (b"\x88\x02\x0f\xa5", 4005),
        (b"\x81\x03abc\x88\x05\x0f\xa0bad", 4000),
        (b"\x88\x05\x0f\xa0ba", None),
        (b"", None),
        (b"HTTP/1.1 431 \r\n\r\n", None),
    ],
)
def test_the_close_code_is_that_of_the_last_frame(last: bytes, code: int | None) -> None:
    assert close_code(last) == code


def test_what_a_server_says_is_shown_as_it_is() -> None:
    row = replace(GOOD, attacker={"ended": {"[/x]": 1}}, join_failures=("[red]busy", "[red]busy"))
    assert details(row) == [
        "pings: the attacker's connections ended with [/x]: 1; /stats counted closed.4005: 3",
        "  failed: [red]busy",
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_a_terminal(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table([GOOD, replace(GOOD, attack="unfinished", underruns=(0, 12))]))
    text = console.export_text()
    for word in ("attack", "underruns", "missing", "p99 ms", "lost", "join s", "health s", "unfinished", "0/12"):
        assert word in text
    assert "…" not in text
