"""Child processes, with real ones: `earshot` itself."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from earshot.lab.children import Child, ChildError, start_server


def wait(child: Child) -> None:
    deadline = time.monotonic() + 60
    while child.running and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not child.running


def test_a_child_that_fails_is_quoted(tmp_path: Path) -> None:
    with Child("the decoder", ["decode", str(tmp_path / "none"), "out.wav", "--model", "no-such-model"]) as child:
        wait(child)
        with pytest.raises(ChildError, match=r"(?s)the decoder ended with status 1:.*there is no model"):
            child.check()


def test_a_child_that_ends_well_is_fine_unless_it_should_go_on() -> None:
    with Child("help", ["--help"]) as child:
        wait(child)
        child.check()
        with pytest.raises(ChildError, match="help ended with status 0 and said nothing"):
            child.check(ended=True)


def test_a_child_ends_with_its_context() -> None:
    with pytest.raises(KeyboardInterrupt), Child("help", ["devices"]) as child:
        raise KeyboardInterrupt
    assert not child.running


def test_lines_that_are_no_status_are_ignored() -> None:
    with Child("help", ["--help"]) as child:
        wait(child)
        assert child.status == {}


def test_a_server_takes_calls_with_the_environment_that_it_was_given(tmp_path: Path) -> None:
    with ExitStack() as stack:
        environment = {**os.environ, "EARSHOT_WORKERS": "3"}
        server, url = start_server(stack, tmp_path, "default", environment)
        with urllib.request.urlopen(url.replace("ws", "http", 1) + "/stats", timeout=30) as answer:  # noqa: S310
            assert json.load(answer)["workers"]["threads"] == 3
    assert not server.running
