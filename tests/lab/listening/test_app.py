"""The requests of a listening test, over real connections: good ones, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from earshot.lab.listening import app as application
from earshot.lab.listening import transport
from earshot.lab.listening.app import MAX_BODY, create_app
from earshot.lab.listening.clips import find_clips
from earshot.lab.listening.plan import Plan
from earshot.lab.listening.record import RATER_COLUMNS, ScoreFile, Table, read_ratings
from earshot.lab.listening.serve import make_server
from earshot.lab.listening.session import Session

CLIPS, SYSTEMS = ("cliff", "meadow"), ("zebra", "yak")


class Test:
    """A running test, and its files."""

    __test__ = False

    def __init__(self, folder: Path, max_raters: int) -> None:
        self.folder = folder
        self.scores = ScoreFile(folder / "scores.csv")
        self.raters = Table(folder / ".raters.csv", RATER_COLUMNS)
        session = Session(Plan(CLIPS, SYSTEMS), b"secret", max_raters)
        ready = threading.Event()
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        app = create_app(session, find_clips(folder), self.scores, self.raters)
        self.server = make_server(app, lambda port: ready.set())
        self.thread = threading.Thread(target=self.server.run, args=([listener],))
        self.thread.start()
        assert ready.wait(30)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.address[1]}", trust_env=False, timeout=30)

    def close(self) -> None:
        self.http.close()
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()
        self.scores.close()
        self.raters.close()

    def join(self, name: str) -> dict[str, str]:
        joined = self.http.post("/api/raters", json={"name": name})
        assert joined.status_code == 201
        return {"Authorization": f"Bearer {joined.json()['key']}"}

    def trial(self, rater: dict[str, str]) -> Any:
        return self.http.get("/api/trial", headers=rater).json()["trial"]

    def rate(self, rater: dict[str, str], **change: object) -> httpx.Response:
        trial = self.trial(rater)
        body = {"trial": trial["token"], "scores": dict.fromkeys(trial["conditions"], 50)} | change
        return self.http.post("/api/scores", headers=rater, json=body)

    def send(self, data: bytes, end: bool = False) -> bytes:
        """On a connection of its own, to its end; `end`: nothing more will come."""
        with socket.create_connection(self.address, 30) as connection:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, clip in enumerate(CLIPS):
        (tmp_path / clip).mkdir()
        for place, name in enumerate(("reference", *SYSTEMS)):
            noise = 0.1 * np.random.default_rng(9 * number + place).uniform(-1, 1, 4000)
            soundfile.write(tmp_path / clip / f"{name}.wav", noise, 16_000)
    return tmp_path


@pytest.fixture
def running(folder: Path) -> Iterator[Test]:
    test = Test(folder, max_raters=2)
    yield test
    test.close()


def test_a_rater_from_beginning_to_end(running: Test) -> None:
    ada = running.join("Ada")
    for number in (1, 2):
        trial = running.trial(ada)
        assert trial["number"] == number
        sounds = [running.http.get(f"/api/sounds/{token}", headers=ada) for token in trial["conditions"]]
        assert {sound.headers["content-type"] for sound in sounds} == {"audio/wav"}
        assert len({len(sound.content) for sound in sounds}) == 1
        reference = running.http.get(f"/api/sounds/{trial['reference']}", headers=ada).content
        assert [sound.content for sound in sounds].count(reference) == 1
        answer = running.rate(ada)
        assert (answer.status_code, answer.json()) == (201, {"rated": number, "total": 2})
        assert len(read_ratings(running.folder / "scores.csv")) == 4 * number  # at once, not at the end
    assert running.trial(ada) is None


def test_no_answer_names_a_system_or_a_clip(running: Test) -> None:
    ada = running.join("Ada")
    trial = running.trial(ada)
    answers = [running.http.get("/api/trial", headers=ada)]
    answers += [running.http.get(f"/api/sounds/{token}", headers=ada) for token in trial["conditions"]]
    answers += [running.rate(ada, scores={}), running.rate(ada)]
    answers += [running.http.get(path) for path in ("/", "/main.js", "/trial.js", "/player.js", "/api/sounds/zebra")]
    for answer in answers:
        said = f"{answer.headers}".encode() + answer.content
        assert not [name for name in (*CLIPS, *SYSTEMS, "anchor") if name.encode() in said]


def test_the_page_loads_nothing_from_elsewhere(running: Test) -> None:
    page = running.http.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    for file in application.PAGE.iterdir():
        assert running.http.get(f"/{file.name}").content == file.read_bytes()
        assert not re.search(r"https?:|[\"'(`]//|url\(|@import", file.read_text())


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"scores": {}}, 400),
        ({"scores": {"unknown": 50}}, 400),
        ({"scores": "50"}, 400),
        ({"scores": {str(number): 50 for number in range(100)}}, 400),
        ({"trial": "unknown"}, 409),
        ({"system": "zebra"}, 400),
    ],
)
def test_answers_that_are_refused_leave_nothing(running: Test, change: dict[str, object], status: int) -> None:
    ada = running.join("Ada")
    answer = running.rate(ada, **change)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert running.scores.ratings == []
    assert running.rate(ada).status_code == 201


@pytest.mark.parametrize("score", [-1, 101, 3.5, True, "7", None])
def test_scores_out_of_range(running: Test, score: object) -> None:
    ada = running.join("Ada")
    first, *others = running.trial(ada)["conditions"]
    scores = dict.fromkeys(others, 50) | {first: score}
    assert running.rate(ada, scores=scores).status_code == 400
    assert running.scores.ratings == []


def test_a_trial_that_is_rated_twice(running: Test) -> None:
    ada = running.join("Ada")
    trial = running.trial(ada)
    whole = {"trial": trial["token"], "scores": dict.fromkeys(trial["conditions"], 50)}
    assert running.rate(ada, **whole).status_code == 201
    assert running.rate(ada, **whole).status_code == 409
    assert len(running.scores.ratings) == 4


@pytest.mark.parametrize("key", ["", "Bearer", "Bearer wrong", "Basic wrong", "Bearer \xff"])
def test_raters_that_nobody_knows(running: Test, key: str) -> None:
    headers = {b"Authorization": key.encode("latin-1")}
    for path in ("/api/trial", "/api/sounds/0"):
        assert running.http.get(path, headers=headers).status_code == 401
    assert running.http.post("/api/scores", headers=headers, json={}).status_code == 401


def test_sounds_of_somebody_else(running: Test) -> None:
    ada, ben = running.join("Ada"), running.join("Ben")
    token = running.trial(ben)["conditions"][0]
    assert running.http.get(f"/api/sounds/{token}", headers=ada).status_code == 404
    assert running.http.get(f"/api/sounds/{token}", headers=ben).status_code == 200


@pytest.mark.parametrize("path", ["/scores.csv", "/../scores.csv", "/%2e%2e/scores.csv", "/cliff/zebra.wav", "/docs"])
def test_no_other_file_is_served(running: Test, path: str) -> None:
    answer = running.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404")


def test_names_and_numbers_of_raters(running: Test) -> None:
    ada, ben = running.join("Ada"), running.join("")
    assert running.http.post("/api/raters", json={"name": "ada"}).status_code == 409
    assert running.http.post("/api/raters", json={"name": "=1"}).status_code == 400
    assert running.http.get("/api/trial", headers=ben).json()["name"].startswith("anonymous-")
    assert running.rate(ada).status_code == running.rate(ben).status_code == 201
    full = running.http.post("/api/raters", json={"name": "Cy"})
    assert (full.status_code, full.json()["fault"]) == (403, "full")


def test_bodies_that_are_too_large(running: Test) -> None:
    body = b'{"name": "' + b"x" * MAX_BODY + b'"}'
    assert running.http.post("/api/raters", content=body).status_code == 413
    assert running.http.post("/api/raters", content=iter([body])).status_code == 413  # of unknown length
    announced = b"POST /api/raters HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n" + body
    assert running.send(announced).startswith(b"HTTP/1.1 413")
    assert running.http.get("/").status_code == 200


def test_a_body_far_too_large_is_answered_too(running: Test) -> None:
    head = b"POST /api/raters HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    assert running.send(head + b"x" * 30_000).startswith(b"HTTP/1.1 413")


def test_one_address_cannot_take_all_connections(running: Test) -> None:
    most = transport.MAX_CONNECTIONS_PER_ADDRESS
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(running.address, 30)) for _ in range(most)]
        for connection in silent:  # so that the server has seen it
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        assert ask(running) == b""
    deadline = time.monotonic() + 30  # for the server to see that they have gone
    while not ask(running).startswith(b"HTTP/1.1 200"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    "beginning",
    [b"", b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"],
)
def test_half_made_connections_are_ended(folder: Path, beginning: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "HEAD_S", 0.3)
    monkeypatch.setattr(transport, "BODY_S", 0.3)
    with (
        contextlib.closing(Test(folder, max_raters=2)) as running,
        socket.create_connection(running.address, 30) as connection,
    ):
        connection.sendall(beginning)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(1 << 16):
                pass


def ask(running: Test) -> bytes:
    """Returns the answer, empty where the connection was cut."""
    try:
        return running.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    except (ConnectionResetError, BrokenPipeError):
        return b""


def test_bodies_that_never_end(running: Test, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "BODY_TIMEOUT_S", 0.2)
    request = b"POST /api/raters HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n{"
    assert running.send(request).startswith(b"HTTP/1.1 408")


def test_bodies_that_are_cut_short_trouble_nobody(running: Test, caplog: pytest.LogCaptureFixture) -> None:
    running.send(b"POST /api/raters HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n{", end=True)
    assert running.http.get("/").status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_sound_that_has_gone_is_not_named(running: Test, caplog: pytest.LogCaptureFixture) -> None:
    ada = running.join("Ada")
    for file in running.folder.glob("*/zebra.wav"):
        file.unlink()
    answers = [running.http.get(f"/api/sounds/{token}", headers=ada) for token in running.trial(ada)["conditions"]]
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 503]
    assert b"zebra" not in b"".join(answer.content for answer in answers if answer.status_code == 503)
    assert "zebra.wav" in caplog.text


@pytest.mark.parametrize("file", ["scores", "raters"])
def test_ratings_that_cannot_be_saved_can_be_sent_again(
    running: Test, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    ada = running.join("Ada")
    trial = running.trial(ada)
    with monkeypatch.context() as patch:
        patch.setattr(getattr(running, file), "append", _no_space)
        answer = running.rate(ada)
        assert (answer.status_code, answer.json()["fault"]) == (503, "not_saved")
    assert running.trial(ada) == trial
    assert running.rate(ada).status_code == 201
    assert len(read_ratings(running.folder / "scores.csv")) == 4
    assert "Ada," in (running.folder / ".raters.csv").read_text(), "after a restart, Ada can go on"


def _no_space(trial: object) -> None:
    raise OSError(28, "No space left on device")


def test_many_answers_at_once_count_once(running: Test) -> None:
    ada = running.join("Ada")
    trial = running.trial(ada)
    body = json.dumps({"trial": trial["token"], "scores": dict.fromkeys(trial["conditions"], 50)}).encode()

    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient(base_url=running.http.base_url, trust_env=False, timeout=30) as http:
            answers = [http.post("/api/scores", headers=ada, content=body) for _ in range(8)]
            return [answer.status_code for answer in await asyncio.gather(*answers)]

    assert sorted(asyncio.run(all_at_once())) == [201] + [409] * 7
    assert len(read_ratings(running.folder / "scores.csv")) == 4
