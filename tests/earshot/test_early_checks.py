"""What cannot be is said before anything is loaded: a model takes seconds."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from earshot.cli import app
from earshot.codec.config import ENCODEC_24KHZ
from earshot.codec.errors import CallError, EarshotError, ModelError, UsageError
from earshot.codec.model.model import Model
from earshot.codec.weights.load import save_native
from earshot.codec.weights.shape import check_rate, shape_of
from earshot.server.net.serve import bind
from tests.peers import running_server
from tests.peers import tiny_model as make_tiny
from tests.server.access.test_paths import EXPIRED, SECRET

CALL = ("call", "den", "--input", "none", "--output", "none")
PORT = 18765
"""Stands for a port that is taken."""


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Model) -> Iterator[None]:
    """Goes to a folder with a model and a sound, where loading a model is a failure."""
    monkeypatch.chdir(tmp_path)
    save_native(tiny_model.network, Path("m.safetensors"))
    soundfile.write("a.wav", np.zeros(640), 24_000)
    soundfile.write("empty.wav", np.zeros(0), 24_000)
    Path("t.ecdc").write_bytes(b"ECDC")
    Path("bad.th").write_bytes(b"nothing")

    def load(*_: object, **__: object) -> None:
        pytest.fail("something was loaded before the check")

    for place in ("earshot.codec.load", "earshot.codec.weights.load.load_model", "earshot.lab.children.start_server"):
        monkeypatch.setattr(place, load)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(sys.modules[__name__], "PORT", taken.getsockname()[1])
        yield


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "a port in use": (("serve", "--port", "PORT"), "cannot listen on 127.0.0.1 port"),
    "a port for health in use": (("serve", "--port", "0", "--health-port", "PORT"), "cannot listen on"),
    "one port twice": (("serve", "--port", "1", "--health-port", "1"), "is named twice"),
    "an address of another machine": (("serve", "--host", "192.0.2.1"), "cannot listen on 192.0.2.1"),
    "a server without its model": (("serve", "--port", "0", "--model", "none"), "there is no model 'none'"),
    "a server without its key": (("serve", "--port", "0", "--token-key", "none"), "there is no key none"),
    "a server without its language model": (("serve", "--lm-model", "none"), "there is no language model none"),
    "a folder for the ready file": (("serve", "--port", "0", "--ready-file", "no/r.json"), "there is no folder no"),
    "a rate that no model has": ((*CALL, "--kbps", "5"), "no rate of 5 kbps"),
    "a rate to take that no model has": ((*CALL, "--max-kbps", "7"), "no rate of 7 kbps"),
    "no such input": (("call", "den", "--input", "none.wav"), "none.wav cannot be read as audio"),
    "an input without sound": (("call", "den", "--input", "empty.wav"), "empty.wav holds no sound"),
    "a loop of nothing": ((*CALL, "--loop"), "only a file can be played in a loop"),
    "no room": (("call", "a room", "--input", "none"), "is no room name"),
    "no address": ((*CALL, "--server", "ftp://x"), "is no address of a server"),
    "a call without its model": ((*CALL, "--model", "none"), "there is no model 'none'"),
    "a call to nobody": ((*CALL, "--server", "ws://127.0.0.1:1"), "no server at ws://127.0.0.1:1"),
    "a call to nobody with a model": ((*CALL, "--server", "ws://127.0.0.1:1", "--model", "m.safetensors"), "no server"),
    "a call to several that are not there": (
        (*CALL, "--server", "ws://127.0.0.1:1,ws://localhost:1"),
        "no server at ws://localhost:1",
    ),
    "a call without another model": ((*CALL, "--also", "none"), "there is no model 'none'"),
    "a rate to encode": (("encode", "a.wav", "a.ecdc", "--kbps", "5"), "no rate of 5 kbps"),
    "a rate of a model of one's own": (
        ("encode", "a.wav", "a.ecdc", "--kbps", "5", "--model", "m.safetensors"),
        "5 kb",
    ),
    "no model to encode": (("encode", "a.wav", "a.ecdc", "--model", "none"), "there is no model"),
    "no model to decode": (("decode", "t.ecdc", "a.flac", "--model", "none"), "there is no model"),
    "nothing to encode": (("encode", "none", "coded"), "there is no such file"),
    "no recording": (("export", "a.wav", "--mix", "mix.flac"), "a.wav"),
    "no clips": (("evaluate", "none"), "there is no audio at 'none'"),
    "a rate to evaluate": (("evaluate", "a.wav", "--kbps", "5"), "no rate of 5 kbps"),
    "no model to evaluate": (("evaluate", "a.wav", "--model", "none"), "there is no model"),
    "nothing to train with": (("train", "lite", "none"), "there is no audio at 'none'"),
    "no recipe": (("train", "nosuch", "none"), "'nosuch' is no preset"),
    "a key that no recipe has": (("train", "lite", "none", "--set", "x=1"), "x: there is no such key"),
    "no weights to begin with": (("train", "lite", "a.wav", "--init", "none"), "there is no model"),
    "no audio for a language model": (("train-lm", "default", "none"), "there is no audio at 'none'"),
    "a demo without its model": (("demo", "--model", "none"), "there is no model"),
    "a rate of a demo": (("demo", "--kbps", "5"), "no rate of 5 kbps"),
    "a rate of a measurement": (("latency", "--kbps", "5"), "no rate of 5 kbps"),
}


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("name", WRONG)
def test_checks_come_before_loading(name: str) -> None:
    words, said = WRONG[name]
    done = CliRunner().invoke(app, [word.replace("PORT", str(PORT)) for word in words])
    assert isinstance(done.exception, EarshotError), (done.output, done.exception)
    assert said in str(done.exception)


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ([], "only those who were invited"),
        (["--token", "none"], "this token does not count here"),
        (["--token", EXPIRED], "this token has expired"),
        (["--token", EXPIRED, "--model", "m.safetensors"], "this token has expired"),
    ],
    ids=["none", "forged", "expired", "expired, with a model"],
)
def test_a_token_that_lets_nobody_in_is_told_before_loading(shown: list[str], said: str) -> None:
    with running_server(make_tiny(), token_key=SECRET) as server:
        done = CliRunner().invoke(app, [*CALL, "--server", f"ws://127.0.0.1:1,{server.url}", *shown])
    assert isinstance(done.exception, CallError), (done.output, done.exception)
    assert said in str(done.exception)


@pytest.mark.usefixtures("_here")
def test_one_server_that_is_there_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise UsageError("the call goes on")

    monkeypatch.setattr("earshot.codec.load", load)
    with running_server(make_tiny()) as server:
        done = CliRunner().invoke(app, [*CALL, "--server", f"ws://127.0.0.1:1,{server.url}"])
    assert str(done.exception) == "the call goes on"


@pytest.mark.usefixtures("_here")
def test_the_shape_of_a_model_without_its_weights(tiny_model: Model) -> None:
    assert shape_of("m.safetensors") == tiny_model.config
    assert shape_of("encodec_24khz") == ENCODEC_24KHZ
    default = shape_of("default")
    assert default is not None
    assert 6.0 in default.bandwidths
    assert shape_of("bad.th") is None
    Path("bad.safetensors").write_bytes(b"\xff" * 40)
    assert shape_of("bad.safetensors") is None
    with pytest.raises(ModelError):
        shape_of("none")
    check_rate("bad.th", 5.0)
    with pytest.raises(UsageError):
        check_rate("default", 5.0)


HELPS = [[], ["call"], ["bench"], ["bench", "server"], ["encode"], ["export-model"], ["token"]]


@pytest.mark.parametrize("words", HELPS, ids=lambda words: " ".join(words) or "earshot")
def test_h_is_help(words: list[str]) -> None:
    short, long = (CliRunner().invoke(app, [*words, ask]) for ask in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.output == long.output
    assert "Usage" in short.output


@pytest.mark.parametrize("ask", ["--version", "-V"])
def test_the_version(ask: str) -> None:
    done = CliRunner().invoke(app, [ask])
    assert (done.exit_code, done.output) == (0, "earshot 0.1.0\n")


def call_process(tmp_path: Path, url: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "earshot", "call", "den", "--server", url, "--input", "none", "--output", "none", *more],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": ":".join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_connection_error_is_one_line(tmp_path: Path, tiny_model: Model) -> None:
    save_native(tiny_model.network, tmp_path / "m.safetensors")
    with call_process(tmp_path, "ws://127.0.0.1:1", "--model", "m.safetensors") as process:
        out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("", 1)
    assert re.fullmatch(r"error: no server at ws://127\.0\.0\.1:1 \(connection refused\).*\n", err)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_leaves_the_call_and_the_report_is_written(number: signal.Signals, tmp_path: Path) -> None:
    """SIGHUP is what a terminal that is closed sends."""
    model = make_tiny()
    save_native(model.network, tmp_path / "m.safetensors")
    with running_server(model) as server:
        process = call_process(tmp_path, server.url, "--model", "m.safetensors", "--report", "r.json")
        with process:
            deadline = time.monotonic() + 60
            while "den" not in server.hub.rooms and process.poll() is None and time.monotonic() < deadline:
                asyncio.run(asyncio.sleep(0.05))
            time.sleep(0.5)  # until sound flows, before which there is no report
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert (tmp_path / "r.json").read_text("utf-8").startswith("{")


def test_an_address_that_is_taken_is_named_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"^cannot listen on 127\.0\.0\.1 port {port}: [^()]+$"):
            bind("127.0.0.1", port)
