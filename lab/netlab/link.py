"""Network namespaces of two clients and a server, joined by lines that this process carries packet
by packet, so that TCP itself sees what happens to them.

`python -m earshot.lab.netlab.link NAME KEY` makes the namespaces NAME-a, NAME-b and NAME-s with the
lines of profile KEY, and removes them when it ends. Its output is JSON: `ready`, then once a second
what went over the lines so far."""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from earshot.lab.netlab.impairment import Impairment
from earshot.lab.netlab.profiles import PROFILES, Profile

TUN = Path("/dev/net/tun")
SET_NAME, TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
"""TUNSETIFF, and IFF_TUN | IFF_NO_PI, of Linux's if_tun.h."""
MTU, PACKETS_A_TURN, SAY_EVERY_S = 1500, 64, 1.0
CLIENTS = ("a", "b")
SERVER = "s"


def address(client: str, of_server: bool = False) -> str:
    """Returns the address of a client, or of the server on that client's line."""
    return f"10.99.{CLIENTS.index(client)}.{2 if of_server else 1}"


def why_not() -> str | None:
    """Returns why namespaces cannot be made here; None if they can."""
    if sys.platform != "linux":
        return "network namespaces are of Linux"
    if os.geteuid() != 0 or not os.access(TUN, os.R_OK | os.W_OK):
        return f"it takes root and {TUN}"
    try:
        _ip("netns", "add", f"earshot-try-{os.getpid()}")
        _ip("netns", "del", f"earshot-try-{os.getpid()}")
    except OSError:
        return "the program ip (package iproute2) is missing"
    except subprocess.CalledProcessError as failed:
        return f"ip netns failed: {failed.stderr.decode(errors='replace').strip()[:200]}"
    return None


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)  # noqa: S607 -- wherever it is


class _End:
    """One end of a line: a TUN device in a namespace."""

    def __init__(self, space: str, device: str, here: str, there: str) -> None:
        self.fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.fd, SET_NAME, struct.pack("16sH", device.encode(), TUN_WITHOUT_HEADER))
        _ip("link", "set", device, "netns", space)
        _ip("-n", space, "addr", "add", here, "peer", there, "dev", device)
        _ip("-n", space, "link", "set", device, "up", "mtu", str(MTU))
        if not space.endswith(f"-{SERVER}"):
            _ip("-n", space, "route", "add", "default", "dev", device)


class Link:
    """The namespaces and lines of one run."""

    def __init__(self, name: str, profile: Profile) -> None:
        self._spaces = [f"{name}-{part}" for part in (*CLIENTS, SERVER)]
        self._heap: list[tuple[float, int, _End, bytes]] = []
        self._count = 0
        self._late_s = 0.0
        self._to: dict[int, tuple[_End, Impairment, str]] = {}
        self._bytes: dict[str, int] = {}
        for space in self._spaces:
            _ip("netns", "add", space)
            _ip("-n", space, "link", "set", "lo", "up")
        _ip("netns", "exec", self._spaces[-1], "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        for number, client in enumerate(CLIENTS):
            here, there = address(client), address(client, of_server=True)
            near = _End(f"{name}-{client}", f"{name}{client}", here, there)
            far = _End(f"{name}-{SERVER}", f"{name}{client}s", there, here)
            self._to[near.fd] = far, Impairment(profile, 2 * number), f"{client} up"
            self._to[far.fd] = near, Impairment(profile, 2 * number + 1), f"{client} down"
        self._bytes = {way: 0 for _, _, way in self._to.values()}
        self._began_s = time.monotonic()

    def figures(self) -> dict[str, Any]:
        """Returns the bytes of each way so far, IP headers included, what was lost, and how late
        this process was at most."""
        lost = {way: impairment.lost for _, impairment, way in self._to.values()}
        return {"bytes": self._bytes, "lost": lost, "late_ms": round(self._late_s * 1000, 2)}

    def carry(self, until_s: float) -> None:
        """Carries packets until a time of the monotonic clock."""
        while (now := time.monotonic()) < until_s:
            due = self._heap[0][0] if self._heap else until_s
            readable, _, _ = select.select(list(self._to), [], [], max(min(due, until_s) - now, 0.0))
            for fd in readable:
                self._take(fd)
            self._deliver()

    def _take(self, fd: int) -> None:
        to, impairment, way = self._to[fd]
        for _ in range(PACKETS_A_TURN):
            try:
                packet = os.read(fd, 2048)
            except BlockingIOError:
                return
            self._bytes[way] += len(packet)
            at = impairment.arrival(time.monotonic() - self._began_s, len(packet))
            if at is not None:
                self._count += 1
                heapq.heappush(self._heap, (self._began_s + at, self._count, to, packet))

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            due, _, to, packet = heapq.heappop(self._heap)
            self._late_s = max(self._late_s, now - due)
            try:
                os.write(to.fd, packet)
            except OSError:
                continue  # a full queue loses packets, as a router does

    def close(self) -> None:
        """Removes the namespaces."""
        for space in self._spaces:
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", space)


def main(name: str, key: str) -> None:
    """Runs one link until SIGTERM."""
    profile = next(each for each in PROFILES if each.key == key)

    def end(*_: object) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, end)
    link = Link(name, profile)
    try:
        print(json.dumps({"ready": True}), flush=True)
        while True:
            link.carry(time.monotonic() + SAY_EVERY_S)
            print(json.dumps(link.figures()), flush=True)
    finally:
        link.close()


if __name__ == "__main__":
    main(*sys.argv[1:3])
