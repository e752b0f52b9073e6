"""A command's last line is its own: libraries print nothing at its end, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.codec.model.model import Model
from earshot.codec.weights.load import save_native
from tests.peers import RunningServer, running_server
from tests.peers import tiny_model as make_tiny


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(make_tiny()) as running:
        yield running


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Goes to a folder with sounds that have to be resampled: the resampler was what leaked."""
    monkeypatch.chdir(tmp_path)
    save_native(make_tiny().network, Path("m.safetensors"))
    noise = 0.1 * np.random.default_rng(1).standard_normal(48_000 * 20)
    soundfile.write("long.wav", noise, 48_000)
    soundfile.write("short.wav", noise[:9_000], 44_100)
    soundfile.write("cut.flac", noise[: 48_000 * 4], 48_000)
    Path("cut.flac").write_bytes(Path("cut.flac").read_bytes()[:-50_000])
    return tmp_path


CALLS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no server": (("--server", "ws://127.0.0.1:1", "--input", "long.wav"), 1, "error: no server at"),
    "no model of the room": (("--input", "long.wav", "--model", "default"), 1, "error: this server's codec is"),
    "a time that is over": (("--input", "long.wav", "--seconds", "0.3"), 0, ""),
    "a file that is over": (("--input", "short.wav", "--linger", "0"), 0, ""),
    "a file that is cut": (("--input", "cut.flac"), 1, "error: cut.flac is cut or damaged"),
    "a rate that is none": (("--input", "long.wav", "--kbps", "5"), 1, "error: "),
    "SIGINT": (("--input", "long.wav"), 0, ""),
    "SIGTERM": (("--input", "long.wav"), 0, ""),
    "codes": (("--input", "long.wav", "--uplink", "codes", "--seconds", "0.3"), 0, ""),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_ends_without_words_of_others(name: str, here: Path, server: RunningServer) -> None:
    words, status, last = CALLS[name]
    usual = ("--server", server.url, "--model", "m.safetensors", "--output", "none")
    process = subprocess.Popen(
        [sys.executable, "-m", "earshot", "call", "den", *usual, *words],
        env=os.environ | {"PYTHONPATH": ":".join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if name.startswith("SIG"):
        assert process.stdout is not None
        process.stdout.readline()  # it is connected
        threading.Timer(0.5, lambda: process.send_signal(getattr(signal, name))).start()
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert said.count("\n") == (1 if last else 0), said
    assert said.startswith(last)


OTHERS: dict[str, Callable[[], tuple[str, ...]]] = {
    "encode": lambda: ("encode", "long.wav", "a.ecdc", "--model", "m.safetensors", "--kbps", "1.5"),
    "encode what is cut": lambda: ("encode", "cut.flac", "a.ecdc", "--model", "m.safetensors", "--kbps", "1.5"),
    "a server's port": lambda: ("serve", "--port", "1", "--host", "192.0.2.1"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_commands_too(name: str, here: Path, tiny_model: Model) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "earshot", *OTHERS[name]()],
        env=os.environ | {"PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout + done.stderr).count("\n") == 1, done.stderr
    assert "leaked" not in done.stderr
