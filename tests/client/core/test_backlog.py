from __future__ import annotations

import pytest

from earshot.client.core.backlog import MAX_NOTED, Backlog

HEADERS = 28


@pytest.mark.parametrize(
    ("waiting", "age"),
    [(0, 0), (-3, 0), (1, 1000), (99, 1000), (100, 1000), (101, 2000), (300, 3000), (9999, 3000)],
)
def test_the_age_of_what_waits(waiting: int, age: int) -> None:
    backlog = Backlog(HEADERS)
    for at in (0, 1000, 2000):
        backlog.add(at, 100 - HEADERS)
    assert backlog.age_us(waiting, 3000) == age


def test_nothing_was_written() -> None:
    assert Backlog(HEADERS).age_us(50, 1000) == 0  # the handshake


def test_it_keeps_no_more_than_a_bound() -> None:
    backlog = Backlog(0)
    for at in range(3 * MAX_NOTED):
        backlog.add(at, 1)
    assert backlog.age_us(1 << 30, 3 * MAX_NOTED) == MAX_NOTED
