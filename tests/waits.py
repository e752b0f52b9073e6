"""How long threads of other processes waited for a processor: what a busy machine does to sound in
real time, and no program can help. Linux tells it (/proc/*/schedstat)."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Self

import numpy as np

PROC = Path("/proc")
EVERY_S = 0.02
LOOK_EVERY = 25
"""Samples between two looks for new threads."""
SOUND = (
    "AudioInput",
    "AudioOutput",
    "AudioWorker",
    "Chrome_ChildIOT",
    "Chrome_IOThread",
    "DedicatedWorker",
    "FakeAudio",
    "Realtime Audio",
    "ThreadPoolAudio",
    "earshot",
    "python",
)
"""How the names of those threads begin through which the sound of a call goes: in Chromium, and in
processes of this project. Of Chromium's processes that draw no page the first thread does, too."""
Sample = tuple[float, float]
"""When, in seconds since 1970, and how long a thread had waited until then."""


class Waits:
    """Watches all processes that this one has started, within a `with`."""

    def __init__(self) -> None:
        self._samples: dict[Path, list[Sample]] = defaultdict(list)
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._watcher.join()

    def longest_s(self, from_s: float, to_s: float) -> float:
        """Returns for how long, between two times in seconds since 1970, that thread waited in all
        which waited the longest; 0 where the system does not tell."""
        return max((_between(samples, from_s, to_s) for samples in self._samples.values()), default=0.0)

    def _watch(self) -> None:
        number, threads = 0, list[Path]()
        while not self._ended.wait(EVERY_S):
            if number % LOOK_EVERY == 0:
                threads = [thread for process in _descendants(os.getpid()) for thread in _sounding(process)]
            number += 1
            now_s = time.time()
            for thread in threads:
                with suppress(OSError, ValueError, IndexError):
                    waited_s = int((thread / "schedstat").read_text().split()[1]) / 1e9
                    self._samples[thread].append((now_s, waited_s))


def _between(samples: list[Sample], from_s: float, to_s: float) -> float:
    """A wait is told when it ends, so that the samples around both times are taken."""
    times = np.asarray([at for at, _ in samples])
    first = max(int(np.searchsorted(times, from_s, "right")) - 1, 0)
    last = min(int(np.searchsorted(times, to_s, "left")), len(samples) - 1)
    return max(samples[last][1] - samples[first][1], 0.0)


def _descendants(process: int) -> list[Path]:
    children = defaultdict[int, list[int]](list)
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children[parent].append(int(folder.name))
    found, left = list[Path](), list(children[process])
    while left:
        found.append(PROC / str(left[-1]))
        left += children[left.pop()]
    return found


def _sounding(process: Path) -> list[Path]:
    """Returns the threads of a process that sound goes through."""
    found = list[Path]()
    with suppress(OSError):
        draws = b"--type=renderer" in (process / "cmdline").read_bytes()
        for thread in (process / "task").iterdir():
            name = (thread / "comm").read_text()
            first = thread.name == process.name and name.startswith("chrom")
            if name.startswith(SOUND) or (first and not draws):
                found.append(thread)
    return found
