"""The page's packets beside those of Python: the same golden bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.web.node import run_js

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden.json").read_text("utf-8"))
NOT_AGREED_ON = {"scale", "coded"}
"""Fields of windows and of entropy-coded packets, which a page neither sends nor asks for."""


def fields(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return list(entry["entries"]) if entry["direction"] == "down" else [entry["fields"]]


def agreed_on(entry: dict[str, Any]) -> bool:
    return all(not NOT_AGREED_ON & set(one) and one.get("format") != "f32" for one in fields(entry))


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    up, down = (
        [e for e in GOLDEN["media"] if e["direction"] == way and (way == "down" or agreed_on(e))]
        for way in ("up", "down")
    )
    plain = [e for e in down if agreed_on(e)]
    malformed = GOLDEN["malformed"] + GOLDEN["malformed_silence"]
    refused = [e for e in malformed if e["direction"] == "down"] + [e for e in down if not agreed_on(e)]
    asked = {
        "up": [e["fields"] for e in up],
        "down": [e["hex"] for e in plain],
        "silences": [e["hex"] for e in GOLDEN["silence"] if e["direction"] == "down"],
        "malformed": [e["hex"] for e in refused],
    }
    result: dict[str, Any] = run_js("packet.mjs", data=asked)
    return result | {"up": up, "down": plain, "refused": refused}


def test_the_page_writes_the_golden_bytes(told: dict[str, Any]) -> None:
    assert len(told["up"]) >= 4
    for entry, written in zip(told["up"], told["encoded"], strict=True):
        assert written == entry["hex"], entry["name"]


def test_the_page_reads_the_golden_bytes(told: dict[str, Any]) -> None:
    assert len(told["down"]) >= 3
    for entry, read in zip(told["down"], told["decoded"], strict=True):
        assert read == entry["entries"], entry["name"]


def test_the_page_reads_who_is_silent(told: dict[str, Any]) -> None:
    down = [e["entries"] for e in GOLDEN["silence"] if e["direction"] == "down"]
    assert len(down) >= 1
    assert told["hushed"] == down


def test_the_page_refuses_what_the_protocol_does_not_allow(told: dict[str, Any]) -> None:
    allowed = [entry["name"] for entry, ok in zip(told["refused"], told["malformed"], strict=True) if not ok]
    assert allowed == []
    assert told["cut"] == []
    assert told["survived"] > 0
