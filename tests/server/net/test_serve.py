"""What `serve` asks of the system."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from earshot.server.net.serve import OTHER_FILES, raise_file_limit

FILES = resource.RLIMIT_NOFILE


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(FILES)
    yield before
    resource.setrlimit(FILES, before)


def test_as_many_files_may_be_open_as_connections_need(limits: tuple[int, int]) -> None:
    hard = limits[1]
    resource.setrlimit(FILES, (200, hard))
    raise_file_limit(10)
    assert resource.getrlimit(FILES) == (2 * 10 + OTHER_FILES, hard)
    raise_file_limit(1)
    assert resource.getrlimit(FILES) == (2 * 10 + OTHER_FILES, hard)


def test_but_never_more_than_the_system_allows(limits: tuple[int, int]) -> None:
    hard = limits[1]
    resource.setrlimit(FILES, (200, hard))
    raise_file_limit(1 << 40)
    soft, _ = resource.getrlimit(FILES)
    assert soft == hard if hard != resource.RLIM_INFINITY else soft >= 200
