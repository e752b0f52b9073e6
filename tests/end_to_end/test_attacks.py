"""The attack script against a real server with real calls, at a small scale: that it works, not
that the server stands it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from earshot.codec.errors import UsageError
from earshot.lab.attacks.attacker import ATTACKS
from earshot.lab.attacks.run import Plan, run
from earshot.lab.attacks.soak import soak


@pytest.fixture(autouse=True)
def _busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the server take speakers that it could not encode in time on a busy machine."""
    monkeypatch.setenv("EARSHOT_LATE_AFTER", "100")


@pytest.mark.timeout(300)
def test_all_attacks_leave_a_row_of_figures(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", "earshot.lab.attacks", "--seconds", "1.5", "--scale", "0.02", "--json", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode in (0, 1), ended.stderr
    assert file.exists(), ended.stderr
    rows = json.loads(file.read_text())
    assert [row["attack"] for row in rows] == list(ATTACKS), ended.stderr
    for row in rows:
        assert len(row["underruns"]) == 2
        assert row["join_s"] is not None or row["join_failures"]
        assert row["health_s"] is not None or row["health_failures"]
    assert sum(row["added_p99_ms"] is not None for row in rows) > len(rows) / 2, "the pair that measures was heard"
    assert all(row["fault"] == "" for row in rows)
    told = {row["attack"]: row["attacker"]["opened"] for row in rows if "killed" not in row["attacker"]["ended"]}
    assert len(told) > len(rows) / 2, "most attackers, who give way to all others, came to their end"
    assert all(bool(opened) == (attack != "nothing") for attack, opened in told.items())


@pytest.mark.timeout(120)
def test_a_soak_says_what_the_server_holds() -> None:
    samples: list = []
    heard = soak(Plan(["rooms"], 1.0, 0.02), 0.01, None, lambda _: None, samples.append, warm_s=1.0)
    assert [sample.after for sample in samples] == ["start", "rooms", "end"]
    assert all(sample.memory_mb > 20 and sample.files > 8 and sample.threads > 1 for sample in samples)
    assert heard.frames > 0
    assert heard.closed == []


def test_servers_of_other_machines_are_refused() -> None:
    with pytest.raises(UsageError, match="of this machine"):
        run(Plan(["pings"]), "ws://192.0.2.1:8765", lambda _: None, lambda _: None)
    with pytest.raises(UsageError, match="url"):
        soak(Plan(["pings"]), 1, "ws://127.0.0.1:1", lambda _: None, lambda _: None)
