"""What the page sends beside what the terminal does: short headers, silence, frames in a message.
The same sound must make the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from earshot.client.core.clock import ServerClock
from earshot.client.core.sender import Sender
from earshot.codec.pcm import Pcm
from earshot.protocol.messages import Pong
from earshot.protocol.packet import decode_up
from earshot.protocol.short_headers import LinkWriter
from tests.web.node import run_js

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden.json").read_text("utf-8"))
HOP, RATE, OFFSET_US, TRACE_EVERY_US = 320, 24_000, 5_000_000, 200_000
SILENCE_UP = b"\x07"


class Levels:
    """Codes of a voice that does not matter: those of tests/web/sender.mjs."""

    kbps = 8 * 0.75

    def push(self, pcm: Pcm) -> NDArray[np.int16]:
        levels = np.sqrt(np.square(pcm.reshape(-1, HOP), dtype=np.float64).mean(axis=1))
        books = np.arange(round(self.kbps / 0.75))
        return np.asarray((np.rint(levels * 4096) + 7 * books[:, None]) % 1024, np.int16)


def noise(seconds: float, level_db: float, seed: int = 0) -> Pcm:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return np.asarray(samples * 10 ** (level_db / 20), np.float32)


def talk() -> Pcm:
    """Words and pauses of many lengths, silence and hiss."""
    parts = [noise(1.2, -55)]
    for seed, pause_s in enumerate((0.3, 0.45, 0.7, 1.5, 9.0, 0.2)):
        parts += [noise(0.5 + 0.1 * seed, -20, seed), noise(pause_s, -60 + 3 * seed, seed)]
    return np.concatenate([*parts, np.zeros(RATE, np.float32), noise(0.4, -18)])


def terminal(pcm: Pcm, block: int, frames: int, quiet: bool, changes: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The same course as in sender.mjs."""
    clock, now = ServerClock(), 0
    clock.ping(0)
    assert clock.pong(Pong(ping_us=0, received_us=OFFSET_US, sent_us=OFFSET_US), 0)
    sender = Sender(
        "codes",
        encoder=Levels(),
        frames_per_packet=frames,
        clock=clock,
        time_us=lambda: now + 700,
        quiet=quiet,
        trace_every_us=TRACE_EVERY_US,
    )
    writer, sent = LinkWriter(HOP), list[list[Any]]()

    def send(step: int, messages: list[bytes]) -> None:
        for message in messages:
            packet: Any = None if message[:1] == SILENCE_UP else decode_up(message)
            sent.append([step, message.hex(), message.hex() if packet is None else writer.up(packet).hex()])

    for step, at in enumerate(range(0, pcm.size, block)):
        change = changes.get(step, {})
        sender.frames_per_packet = change.get("framesPerPacket", sender.frames_per_packet)
        sender.kbps = change.get("codebooks", 0) * 0.75 or sender.kbps
        sender.muted = change.get("muted", sender.muted)
        now += round(block * 1e6 / RATE) + change.get("late_us", 0)
        part = pcm[at : at + block]
        send(step, sender.push(part, now - round(part.size * 1e6 / RATE), now))
    send(-1, sender.flush(now))
    return {
        "sent": sent,
        "silent": sender.frames_silent,
        "muted": sender.frames_muted,
        "lost": sender.samples_lost,
    }


CASES: dict[str, dict[str, Any]] = {
    "three frames": {"frames": 3, "quiet": True},
    "a frame": {"frames": 1, "quiet": True},
    "six frames, other blocks": {"frames": 6, "quiet": True, "block": 441},
    "silence is sent": {"frames": 3, "quiet": False},
    "all that may change": {
        "frames": 1,
        "quiet": True,
        "changes": {
            60: {"framesPerPacket": 6},
            150: {"codebooks": 4},
            300: {"muted": True},
            420: {"muted": False, "framesPerPacket": 3},
            500: {"late_us": 90_000},
            700: {"codebooks": 16, "framesPerPacket": 2},
        },
    },
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_same_sound_makes_the_same_messages(case: dict[str, Any]) -> None:
    pcm, block, changes = talk(), case.get("block", HOP), case.get("changes", {})
    expected = terminal(pcm, block, case["frames"], case["quiet"], changes)
    asked = {"pcm": pcm.tolist(), "hop": HOP, "rate": RATE, "block": block, "offset_us": OFFSET_US}
    told = run_js("sender.mjs", data=asked | case | {"changes": changes, "traceEvery_us": TRACE_EVERY_US})
    for ours, theirs in zip(told["sent"], expected["sent"], strict=True):
        if bytes.fromhex(theirs[1])[:1] == SILENCE_UP:  # levels may be rounded otherwise
            levels = [np.frombuffer(bytes.fromhex(each[1])[8:], np.uint8).astype(int) for each in (ours, theirs)]
            assert np.abs(levels[0] - levels[1]).max() <= 1
            assert (ours[0], ours[1][:16]) == (theirs[0], theirs[1][:16])
        else:
            assert ours == theirs
    assert {name: told[name] for name in ("silent", "muted", "lost")} == {
        name: expected[name] for name in ("silent", "muted", "lost")
    }
    assert (expected["silent"] > 500) == case["quiet"]


@pytest.fixture(scope="module")
def links() -> dict[str, Any]:
    # A page agrees to no entropy coding: what follows on such a packet is not for it.
    plain = [[m for m in e["messages"] if bytes.fromhex(m["plain"])[1] & 4 == 0] for e in GOLDEN["short_headers"]]
    ways = [e["direction"] for e in GOLDEN["short_headers"]]
    malformed = [e for e in GOLDEN["malformed_short_headers"] if e["direction"] == "down"]
    coded = [[m["hex"] for m in e["messages"]] for e in GOLDEN["short_headers"] if e["direction"] == "down"][:1]
    asked = {way: [m for m, own in zip(plain, ways, strict=True) if own == way] for way in ("up", "down")}
    asked["down"] = [[m for m in messages if m["hex"][:4] != "0610"] for messages in asked["down"]]
    told: dict[str, Any] = run_js(
        "short.mjs", data=asked | {"malformed": [*(e["messages"] for e in malformed), *coded]}
    )
    return told | {"asked": asked}


def test_the_page_writes_golden_short_headers(links: dict[str, Any]) -> None:
    assert links["written"] == [[message["hex"] for message in each] for each in links["asked"]["up"]]
    assert sum(map(len, links["written"])) >= 3


def test_the_page_reads_golden_short_headers(links: dict[str, Any]) -> None:
    read = [message for messages in links["read"] for message in messages]
    assert len(read) >= 5
    for message in read:
        assert message["short"] == message["long"]


def test_the_page_refuses_short_headers_that_nobody_may_send(links: dict[str, Any]) -> None:
    assert None not in links["refused"]
    assert "entropy-coded" in links["refused"][-1]
    assert len(links["refused"]) >= 4
    assert links["kept"] == len([m for each in links["asked"]["down"] for m in each])
    assert links["survived"] > 0
