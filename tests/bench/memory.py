"""The memory that models and sessions hold, and what a thousand sessions that were opened, used and
closed leave behind.

    python -m tests.bench.memory

Each row is a process of its own. RSS is what Linux reports: memory that was freed before and is
used again does not show there. Python's own memory is counted by tracemalloc."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from earshot import codec
from earshot.codec.config import ENCODEC_24KHZ
from earshot.codec.engine.choice import EngineName, engine_factory, use_engine
from earshot.codec.model.model import Model
from earshot.codec.model.network import Encodec

MODELS, ENGINES, THROUGH = ("default", "full"), ("native", "torch"), ("engine", "sessions")
OPEN, WARM, TIMES = 50, 100, 1000
Pair = tuple[Callable[[], None], Callable[[], None]]


def rss() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def load(name: str) -> Model:
    return codec.load(name, engine="torch") if name == "default" else Model(Encodec(ENCODEC_24KHZ))


def opener(model: Model, engine: EngineName, through: str) -> Callable[[], Pair]:
    """Returns what opens a pair of streams, one in each direction, and gives (step both, close
    both)."""
    frame, n_q = np.zeros(model.hop_length, np.float32), model.config.n_q(6.0)
    if through == "sessions":
        use_engine(model, engine)

        def sessions() -> Pair:
            encoder, decoder = model.encoder(6.0, start="zeros"), model.decoder(start="zeros")
            return lambda: (decoder.push(encoder.push(frame)), None)[1], lambda: None

        return sessions
    slots = engine_factory(model, engine)(OPEN + 1, OPEN + 1)

    def opened() -> Pair:
        encoder, decoder = slots.open_encoder(), slots.open_decoder()

        def step() -> None:
            slots.decode([decoder], slots.encode([encoder], frame[None], [n_q]))

        return step, lambda: [slots.close(slot) for slot in (encoder, decoder)] and None

    return opened


def measure(row: tuple[str, EngineName, str]) -> tuple[float, float, float, float]:
    """Returns MiB of the model, KiB of a pair of sessions, KiB of RSS that TIMES pairs left, and
    KiB of Python's memory that WARM pairs left."""
    name, engine, through = row
    torch.set_num_threads(1)
    use = opener(load("default"), engine, through)()  # what is loaded with the first model of any kind
    use[0]()
    start = rss()
    model = load(name)
    make = opener(model, engine, through)
    step, close = make()
    step()
    close()
    del step, close
    loaded = rss()
    pairs = [make() for _ in range(OPEN)]
    for step, _ in pairs:
        step()
    held = rss()
    for _, close in pairs:
        close()
    del pairs, step, close

    def live() -> None:
        step, close = make()
        step()
        close()

    for _ in range(WARM):
        live()
    before = rss()
    for _ in range(TIMES):
        live()
    left = rss() - before
    tracemalloc.start()
    for _ in range(10):
        live()
    gc.collect()
    python, _ = tracemalloc.get_traced_memory()
    for _ in range(WARM):
        live()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - python
    return (loaded - start) / 2**20, (held - loaded) / OPEN / 1024, left / 1024, grown / 1024


def main() -> int:
    argparse.ArgumentParser(
        "python -m tests.bench.memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    rows = [(model, engine, through) for model in MODELS for engine in ENGINES for through in THROUGH]
    table = Table(title=f"Memory; left by {TIMES} pairs that were opened, stepped and closed (Python: by {WARM})")
    sizes = ("model, MiB", "encoder + decoder, KiB", "RSS left, KiB", "Python left, KiB")
    for title in ("model", "engine", "through", *sizes):
        table.add_column(title, justify="right" if "iB" in title else "left")
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        results = track(pool.imap(measure, rows), total=len(rows), disable=not sys.stderr.isatty())
        for row, found in zip(rows, results, strict=True):
            table.add_row(*row, *(f"{value:.1f}" for value in found))
    Console(width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
