"""The numbers in the documents are those of the code, and each limit lives where they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from earshot.codec import audio_reader
from earshot.codec.pcm import MOST_SCALE
from earshot.protocol import descriptions, entropy_link, messages, packet
from earshot.protocol.text import MAX_REASON
from earshot.server import hub
from earshot.server.core import pauses, peer_names
from earshot.server.core.send_queue import DegradationPolicy
from earshot.server.entropy import coded_connections
from earshot.server.net import door
from earshot.server.net.transport import http, websocket
from earshot.server.settings import Settings

ROOT = Path(__file__).parents[2]
S = Settings()
DOOR = door.DoorLimits.of(S)

PROTOCOL: list[tuple[str, float]] = [
    (r"let in one by one, every (\S+) ms", S.accept_interval_ms),
    (r"sends `hello` within (\S+) s", S.hello_timeout_s),
    (r"no `hello` within (\S+) s", S.hello_timeout_s),
    (r"WebSocket ping \(one every (\S+) s\)", S.ping_interval_s),
    (r"unanswered for (\S+) s\.", S.ping_timeout_s),
    (r"complete its HTTP request within (\S+) s", DOOR.head_s),
    (r"complete its HTTP request within (\S+) s", DOOR.body_s),
    (r"take the answer within (\S+) s", DOOR.answer_s),
    (r"request has more than (\d+) kB", http.MAX_HEAD_BYTES / 1024),
    (r"more than 32 kB, (\d+) headers", http.MAX_HEADERS),
    (r"or (\d+) bytes in its path", http.MAX_LINE_BYTES),
    (r"More than (\d+) connections of its address", DOOR.waiting_per_address),
    (r"More than (\d+) connections of its address", DOOR.half_made_per_address),
    (r"or more than (\d+) of all addresses wait", door.MAX_WAITING),
    (r"a message over (\d+) characters", messages.MAX_CONTROL_BYTES),
    (r"digests of models whose windows it takes, at most (\d+)", messages.MAX_ALSO),
    (r"it can code packets with, at most (\d+)", messages.MAX_LANGUAGE_MODELS),
    (r"where not everyone may enter, at most (\d+)", messages.MAX_TOKEN),
    (r"a message to it should hold, 1\.\.(\d+)", messages.MAX_FRAMES_WANTED),
    (r"`name` has at most (\d+) characters", peer_names.MAX_NAME),
    (r"`reason` \(at most (\d+) characters", MAX_REASON),
    (r"newest state of a peer, within (\d+) ms", 1000 * S.change_interval_s),
    (r"passes on \((\d+) and 1000 copies a second", S.changes_per_second),
    (r"passes on \(500 and (\d+) copies a second", S.address_changes_per_second),
    (r"copies a second, (\d+) at once", S.changes_burst),
    (r"samples \(0 to (\d+), in -1\.\.1", packet.MAX_PCM_SAMPLES),
    (r"`u8 n_q` \(1\.\.(\d+)\), `u8 frames`", packet.MAX_CODEBOOKS),
    (r"`u8 frames` \(1\.\.(\d+); of a window", packet.MAX_FRAMES),
    (r"of a window 1\.\.(\d+)\)", packet.MAX_WINDOW_FRAMES),
    (r"`f32 scale`, 0\.\.(\d+)\]", MOST_SCALE),
    (r"`frames` is then 1\.\.(\d+),", packet.MAX_CODED_FRAMES),
    (r"and they have 0\.\.(\d+) bytes", packet.MAX_CODED_BYTES),
    (r"more than (\d+) fragments", websocket.MAX_FRAGMENTS),
    (r"server itself stands still \(over (\S+) s\)", hub.PAUSE_US / 1e6),
    (r"the server keeps the newest (\d+) frames", S.encoder_backlog_frames),
    (r"all codebooks make at most (\d+) kbps", descriptions.MAX_SPOKEN_KBPS),
    (r"A link has at most (\d+) streams", entropy_link.MAX_STREAMS),
    (r"left out for (\d+) coded packets", entropy_link.IDLE_PACKETS),
    (r"workers have no time within (\w+) a frame", coded_connections.LONGEST_WAIT),
    (r"more than (\d+) text messages a second", S.control_per_second),
    (r"text messages a second \(bursts of (\d+)", S.control_burst),
    (r"It took nothing for (\S+) s", S.close_after_ms / 1000),
    (r"or (\d+) control messages wait", S.max_waiting_control),
    (r"More than (\d+) clients of one address a second", S.joins_per_second),
    (r"came into rooms \((\d+) at once", S.join_burst),
    (r"asks more than (\d+) times a second gets 429", S.http_requests_per_second),
    (r"\| under (\d+) ms \|", DegradationPolicy().join_us / 1000),
    (r"\| under (\d+) ms \|", S.join_after_ms),
    (r"\| from (\d+) ms on \| also cuts them to 4", S.cut_to_4_after_ms),
    (r"\| from (\d+) ms on \| also cuts them to 2", S.cut_to_2_after_ms),
    (r"\| above (\d+) ms \| drops the oldest", S.drop_after_ms),
    (r"\| (\S+) s without progress \|", S.close_after_ms / 1000),
]
DEPLOY: list[tuple[str, float]] = [
    (r"`EARSHOT_STUCK_AFTER_S` \((\S+) s\)", S.stuck_after_s),
    (r"as JSON, at most (\S+) s old", S.stats_age_s),
    (r"More than (\d+) requests a second from one address", S.http_requests_per_second),
    (r"More than (\d+) requests a second from one address", S.stats_requests_per_second),
    (r"`EARSHOT_AUDIT_LINES_PER_SECOND` \((\d+)\)", S.audit_lines_per_second),
    (r"may have (\d+) half-made ones", S.max_half_made_per_address),
    (r"and (\d+) that wait", S.max_waiting_per_address),
]
CHANGELOG: list[tuple[str, float]] = [
    (r"Audio files of less than (\S+) or more than", audio_reader.LOWEST_RATE),
    (r"or more than (\S+) samples a second", audio_reader.HIGHEST_RATE),
    (r"of more than (\d+) channels", audio_reader.MAX_CHANNELS),
    (r"channels or (\d+) hours", audio_reader.MAX_HOURS),
    (r"as its newest state, every (\d+) ms", 1000 * S.change_interval_s),
    (r"a pause of up to (\d+) s", pauses.LONGEST_CREDIT_US / 1e6),
    (r"An address may send (\d+) clients a second", S.joins_per_second),
    (r"into rooms, after (\d+) at once", S.join_burst),
    (r"`/stats` is at most (\S+) s old", S.stats_age_s),
    (r"may ask (\d+) times a second", S.http_requests_per_second),
    (r"at most (\d+) half-made connections", S.max_half_made_per_address),
]
CASES = [
    (name, pattern, value)
    for name, rows in (("docs/protocol.md", PROTOCOL), ("docs/deploy.md", DEPLOY), ("CHANGELOG.md", CHANGELOG))
    for pattern, value in rows
]


def number(text: str) -> float:
    return 0.5 if text == "half" else float(text.replace(",", ""))


@pytest.mark.parametrize(("document", "pattern", "value"), CASES)
def test_a_documented_number_is_that_of_the_code(document: str, pattern: str, value: float) -> None:
    prose = " ".join((ROOT / document).read_text("utf-8").split())
    found = re.findall(pattern, prose)
    assert [number(each) for each in found] == [value]


def test_more_than_twice_as_many_connections_as_stay_are_cut() -> None:
    assert DOOR.connections == 2 * S.max_connections
    assert DOOR.per_address == 2 * S.max_connections_per_address


def test_files_that_keep_a_limit_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = text.partition("## Where each limit lives")[2].partition("\n## ")[0]
    named = re.findall(r"`([a-z_/]+(?:\.py|/))`", table)
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).exists()] == []
