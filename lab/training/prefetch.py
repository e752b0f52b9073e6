"""Batches made ahead of the trainer by worker processes, the same ones however many work.

Processes, not threads: rendering holds Python's lock often enough to delay a trainer that launches
many small kernels. Each worker has a duplex pipe and two slots of shared memory; slot numbers go to
and fro, sound does not. A worker whose pipe closes ends, so none outlives its trainer."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import traceback
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from earshot.codec.errors import EarshotError, UsageError
from earshot.codec.pcm import Pcm

SLOTS = 2
"""Batches a worker is ahead."""

MOST_WORKERS = 64
GOODBYE_S = 5.0

Memory = ctypes.Array[ctypes.c_float]


class Data(Protocol):
    counts: Counter[str]

    @property
    def channels(self) -> int: ...
    @property
    def crop(self) -> int: ...
    def batch(self, size: int, seed: int, step: int, rank: int = 0) -> Pcm: ...


class Batches(Iterator[Pcm]):
    """Endless; every batch is its receiver's own. Without workers batches are made as they are
    asked for.

    An error of a worker is raised here in its turn, as itself if it is an EarshotError and as a
    RuntimeError with its traceback otherwise. Close it, or use it with `with`. Workers are spawned:
    a script that uses them must be importable without running (`if __name__ == "__main__":`)."""

    def __init__(self, data: Data, size: int, seed: int, first_step: int, rank: int, workers: int) -> None:
        if not 0 <= workers <= MOST_WORKERS or size < 1:
            raise UsageError(f"{workers} workers and batches of {size}: take 0 to {MOST_WORKERS} and at least 1")
        self._data, self._size, self._seed, self._rank = data, size, seed, rank
        self._shape = (SLOTS, size, data.channels, data.crop)
        self._first = self._step = first_step
        self._closed = False
        self._pipes: list[Connection] = []
        self._memories: list[Memory] = []
        context = multiprocessing.get_context("spawn")
        self._processes = []
        for worker in range(workers):
            ours, theirs = context.Pipe()
            memory = context.RawArray(ctypes.c_float, int(np.prod(self._shape)))
            job = (theirs, memory, self._shape, data, size, seed, range(first_step + worker, 2**62, workers), rank)
            process = context.Process(target=_work, args=job, daemon=True, name=f"data {worker}")
            process.start()
            theirs.close()
            for slot in range(SLOTS):
                ours.send(slot)
            self._pipes.append(ours)
            self._memories.append(memory)
            self._processes.append(process)

    def __next__(self) -> Pcm:
        if self._closed:
            raise StopIteration
        if not self._processes:
            batch = self._data.batch(self._size, self._seed, self._step, self._rank)
        else:
            batch = self._receive((self._step - self._first) % len(self._processes))
        self._step += 1
        return batch

    def _receive(self, worker: int) -> Pcm:
        pipe = self._pipes[worker]
        try:
            answer = pipe.recv()
            if isinstance(answer, Exception):
                self.close()
                raise answer
            slot, counts = answer
            shared = np.frombuffer(memoryview(self._memories[worker]), np.float32).reshape(self._shape)
            batch: Pcm = shared[slot].copy()
            pipe.send(slot)
        except (EOFError, ConnectionError):
            self._processes[worker].join(GOODBYE_S)
            code = self._processes[worker].exitcode
            self.close()
            raise RuntimeError(f"a data worker ended with exit code {code}") from None
        self._data.counts.update(counts)
        return batch

    def close(self) -> None:
        """Ends the workers; nothing more comes out."""
        self._closed = True
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(GOODBYE_S)
            if process.is_alive():
                process.kill()
                process.join()
        self._pipes, self._memories, self._processes = [], [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _work(
    pipe: Connection,
    memory: Memory,
    shape: tuple[int, ...],
    data: Data,
    size: int,
    seed: int,
    steps: range,
    rank: int,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to handle; it closes the pipe
    slots = np.frombuffer(memoryview(memory), np.float32).reshape(shape)
    try:
        for step in steps:
            slot = pipe.recv()
            data.counts.clear()
            try:
                slots[slot] = data.batch(size, seed, step, rank)
            except EarshotError as error:
                pipe.send(error)
                return
            except Exception:
                pipe.send(RuntimeError(f"a data worker failed:\n{traceback.format_exc()}"))
                return
            pipe.send((slot, data.counts.copy()))
    except (EOFError, ConnectionError):
        return
