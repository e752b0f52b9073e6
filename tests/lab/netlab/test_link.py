"""A line between real namespaces, where they can be made."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from earshot.lab.children import START_S, Child
from earshot.lab.netlab.link import address, why_not

ECHO = """
import socket
server = socket.create_server(("0.0.0.0", 7000))
print("up", flush=True)
connection, _ = server.accept()
connection.sendall(connection.recv(9))
"""
ASK = f"""
import socket, time
began = time.monotonic()
connection = socket.create_connection(("{address("a", of_server=True)}", 7000))
connection.sendall(b"x")
connection.recv(9)
print(time.monotonic() - began)
"""


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_a_round_trip_takes_as_long_as_its_profile_says() -> None:
    name = f"t{os.getpid() % 100_000}"
    with Child("the line", [name, "rtt50"], module="earshot.lab.netlab.link") as line:
        deadline = time.monotonic() + START_S
        while "bytes" not in line.status and time.monotonic() < deadline:
            line.check(ended=True)
            time.sleep(0.05)
        inside = ["ip", "netns", "exec"]
        with subprocess.Popen([*inside, f"{name}-s", sys.executable, "-c", ECHO], stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"up\n"
            asked = subprocess.run(
                [*inside, f"{name}-a", sys.executable, "-c", ASK], capture_output=True, text=True, check=True
            )
        assert float(asked.stdout) > 0.1  # two round trips of 50 ms: to connect, and to ask
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert name not in left


def test_why_not_is_a_sentence_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert why_not() is not None
