"""Parts that tests of rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers import RunningServer, running_server, tiny_model


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """With the tiny model and default settings; modules that need another have a fixture of this
    name."""
    with running_server(tiny_model()) as running:
        yield running
