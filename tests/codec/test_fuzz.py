"""Runs tests/fuzz.py for a short time; the long run is a command."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz import Fuzz, run


def test_mutated_files_and_packets(tmp_path: Path) -> None:
    outcomes = run(Fuzz(tmp_path), 300, seed=1)
    assert sum(outcomes.values()) == 300
    assert {"file: AudioError", "file: ModelError", "file: decoded", "file: decoded up to the damage"} <= set(outcomes)
    assert {"packets: codes", "packets: DataError", "links: codes", "links: ProtocolError"} <= set(outcomes)
