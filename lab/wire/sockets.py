"""Bytes of the TCP sockets of other processes, as Linux counts them (the program `ss`)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import NamedTuple

from earshot.codec.errors import EarshotError

IP_TCP_BYTES = 52
"""Headers of a segment: IPv4 20, TCP with time stamps 32."""


class Counted(NamedTuple):
    """All bytes of one socket so far, with the headers of IPv4 and TCP, acknowledgements and what
    was sent again."""

    up: int
    down: int


def why_not() -> str | None:
    """Returns why sockets cannot be counted here; None if they can."""
    if sys.platform != "linux":
        return "only Linux counts what a socket sends"
    return None if shutil.which("ss") else "the program ss (package iproute2) is missing"


def parse(text: str, pid: int) -> Counted | None:
    """Returns the count of the one socket of a process in what `ss -tinpHO` printed; None if it is
    not there."""
    for line in text.splitlines():
        if f"pid={pid}," not in line:
            continue
        found = {name: int(value) for name, value in re.findall(r"\b(\w+):(\d+)", line)}
        up = found.get("bytes_sent", 0) + found.get("segs_out", 0) * IP_TCP_BYTES
        return Counted(up, found.get("bytes_received", 0) + found.get("segs_in", 0) * IP_TCP_BYTES)
    return None


def count(pid: int, port: int) -> Counted:
    """Counts the socket of a process to a port. Raises EarshotError."""
    told = subprocess.run(
        ["ss", "-tinpHO", f"dport = :{port}"],  # noqa: S607 -- wherever it is
        capture_output=True,
        text=True,
        check=False,
    )
    counted = parse(told.stdout, pid)
    if counted is None:
        raise EarshotError(f"ss shows no socket of process {pid} to port {port}: {told.stderr.strip()[:200]}")
    return counted
