"""What `earshot bench` does, without its terminal."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch

from earshot.codec.engine.choice import HOW_TO_GET_IT, native_is_built
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.lab.benchmark.candidates import Candidate, Task, kernel_sets, own_candidates
from earshot.lab.benchmark.floor import BYTES, Direction, Machine, work_of
from earshot.lab.benchmark.inputs import benchmark_model, inputs_of
from earshot.lab.benchmark.machine import Probe, processor
from earshot.lab.benchmark.peers import PEERS, what_is_missing
from earshot.lab.benchmark.pictures import streams_by_batch
from earshot.lab.benchmark.results import Results, Row
from earshot.lab.benchmark.runner import QUICK, Effort, equal_codes, rows_of, run_rounds
from earshot.lab.versions import versions

BATCHES, QUICK_BATCHES = (1, 2, 4, 8, 16, 32, 64), (1, 32)
MOST_BATCH, LEAST_FRAMES = 1024, 16
PACKAGES = ("earshot", "torch", "encodec", "transformers", "onnxruntime", "openvino", "av")
DIRECTIONS: tuple[Direction, ...] = ("encode", "decode")
Progress = Callable[[str, float], None]
"""(what is measured, the fraction that is done)."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """The options of the command."""

    model: str = "default"
    kbps: float = 6.0
    batches: Sequence[int] = ()
    """BATCHES, or QUICK_BATCHES, if empty."""
    rounds: int | None = None
    quick: bool = False
    peers: bool = True
    precisions: Sequence[str] = tuple(BYTES)
    kernels: Sequence[str] = ("auto",)
    threads: int = 1
    json: Path | None = None
    png: Path | None = None

    @property
    def effort(self) -> Effort:
        effort = QUICK if self.quick else Effort()
        return effort if self.rounds is None else replace(effort, rounds=self.rounds)

    def chosen_batches(self) -> list[int]:
        return sorted(set(self.batches or (QUICK_BATCHES if self.quick else BATCHES)))

    def check(self) -> None:
        """Raises UsageError for options that cannot be."""
        if any(not 1 <= batch <= MOST_BATCH for batch in self.batches):
            raise UsageError(f"batches must be in 1..{MOST_BATCH}")
        if unknown := sorted(set(self.precisions) - set(BYTES)):
            raise UsageError(f"there is no precision {unknown[0]!r}; choose of {', '.join(BYTES)}")
        for file in filter(None, (self.json, self.png)):
            if not file.absolute().parent.is_dir():
                raise UsageError(f"there is no folder {file.parent} to write {file.name} to")


def run(options: BenchmarkOptions, command: str = "", progress: Progress | None = None) -> Results:
    """Measures, and writes the files that `options` asks for.

    Raises UsageError for options that cannot be, ModelError for models that cannot be loaded.
    Packages that are not installed are left out and named in the results."""
    options.check()
    model = benchmark_model(options.model)
    n_q = model.config.n_q(options.kbps)
    kernels = kernel_sets(options.kernels)
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from packages that are measured here and used nowhere else
            rows, machines = measure(model, n_q, options, kernels, progress or (lambda *_: None))
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)
    missing = what_is_missing(list(PEERS)) if options.peers else []
    if not native_is_built():
        missing.insert(0, f"the native engine is not built, and without it there is no floor: {HOW_TO_GET_IT}")
    results = Results(options.model, n_q, rows, about(machines, options.threads), missing)
    if options.json:
        options.json.write_text(results.to_json(command), "utf-8")
    if options.png:
        streams_by_batch(results, options.png)
    return results


def measure(
    model: Model, n_q: int, options: BenchmarkOptions, kernels: Sequence[str], progress: Progress
) -> tuple[list[Row], list[Machine]]:
    """Measures one direction after the other, and each with one batch after the other.

    For each of these all candidates are made, take turns and are let go."""
    rows: list[Row] = []
    machines: list[Machine] = []
    batches, effort = options.chosen_batches(), options.effort
    groups = [(direction, batch) for direction in DIRECTIONS for batch in batches]
    for index, (direction, batch) in enumerate(groups):
        label = f"{direction}, B = {batch}"
        progress(label, index / len(groups))
        inputs = inputs_of(model, batch, max(LEAST_FRAMES, -(-effort.codes // (batch * n_q))), n_q)
        signal = inputs_of(model, 1, max(1, round(effort.signal_seconds * model.frame_rate)), n_q)
        task = Task(model, direction, inputs, signal, options.precisions, options.threads)
        candidates = list(own_candidates(task, kernels))
        if options.peers:
            candidates += peer_candidates(task, first=batch == batches[0])
        equal = equal_codes(candidates, inputs)
        work, paced = work_of(model.config, direction, n_q), batch == 1
        stepping = sum(own.key.batch is not None for own in candidates)
        turns, done = effort.rounds * (len(candidates) + paced * stepping), 0

        def turned(label: str = label, index: int = index, turns: int = turns) -> None:
            nonlocal done
            done += 1
            progress(label, (index + done / turns) / len(groups))

        probe = Probe(work)
        times = run_rounds(candidates, probe, effort, 1 / model.frame_rate if paced else None, turned)
        found = rows_of(times, equal, work, machine := probe.machine())
        rows += [row for row in found if row.key.batch is not None or batch == batches[0]]
        machines += [machine] if machine else []
    progress("", 1.0)
    return rows, machines


def peer_candidates(task: Task, first: bool) -> Iterator[Candidate]:
    """Yields the other packages that are installed.

    The encodec package is in every group, since all are compared with it. A package that does not
    depend on the batch is only in the `first`."""
    for peer in PEERS.values():
        if peer.installed and (first or not peer.once):
            yield from peer.make(task)


def about(machines: Sequence[Machine], threads: int) -> dict[str, object]:
    """Describes the machine: medians over the run, in thousands of millions a second."""
    told: dict[str, object] = {"processor": processor(), "threads": threads, "versions": versions(PACKAGES)}
    if machines:
        peaks = {p: [own.macs_per_second[p] for own in machines] for p in machines[0].macs_per_second}
        told["gmac_per_second"] = {precision: round(median(own) / 1e9, 1) for precision, own in peaks.items()}
        told["cold_gb_per_second"] = round(median(own.cold_bytes_per_second for own in machines) / 1e9, 1)
    return told
