"""Workers: the same batches however many there are, errors that arrive, and an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.codec.errors import UsageError
from earshot.lab.training import prefetch
from earshot.lab.training.data import TrainingData
from earshot.lab.training.recipe import DataSettings, Reverberation
from earshot.lab.training.sources import Source


@pytest.fixture
def data(tmp_path: Path) -> TrainingData:
    """Noise everywhere, so that crops differ, and rooms in every example."""
    (tmp_path / "voices").mkdir()
    for i in range(3):
        samples = 0.1 * np.random.default_rng(i).standard_normal(24_000)
        soundfile.write(tmp_path / "voices" / f"{i}.wav", samples, 24_000)
    settings = DataSettings(
        sources=(Source(str(tmp_path / "voices")),),
        reverberation=Reverberation(probability=1, rooms=2, rt60=(0.1, 0.2)),
    )
    return TrainingData(settings, 24_000, 1, 1200, progress=False)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_do_not_depend_on_workers(data: TrainingData, workers: int) -> None:
    with data.batches(4, seed=3, first_step=5, rank=1, workers=workers) as batches:
        drawn = [next(batches) for _ in range(8)]
        assert data.counts["examples"] == 32
        for i, batch in enumerate(drawn):
            np.testing.assert_array_equal(batch, data.batch(4, seed=3, step=5 + i, rank=1))
            batch[:] = 0  # the receiver's own
    assert list(batches) == []


def test_an_error_of_ours_arrives_as_itself(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(24_000), 24_000)
    data = TrainingData(DataSettings(sources=(Source(str(tmp_path)),)), 24_000, 1, 1200, progress=False)
    batches = data.batches(2, 0, workers=1)
    processes = list(batches._processes)
    with pytest.raises(UsageError, match="silent nearly everywhere"):
        next(batches)
    assert not any(process.is_alive() for process in processes)
    assert list(batches) == []


def test_any_other_error_arrives_with_its_traceback(data: TrainingData) -> None:
    data.rooms.clear()
    with data.batches(2, 0, workers=1) as batches, pytest.raises(RuntimeError, match="IndexError"):
        next(batches)


def test_a_killed_worker_is_missed(data: TrainingData) -> None:
    with data.batches(2, 0, workers=1) as batches:
        next(batches)
        pid = batches._processes[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="exit code -9"):
            list(islice(batches, 4))


def test_workers_end_with_their_trainer(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    """By themselves: none has to be killed."""
    monkeypatch.setattr(prefetch, "GOODBYE_S", 60.0)
    batches = data.batches(2, 0, workers=2)
    processes = list(batches._processes)
    for _ in processes:  # each has begun to work: one that is still importing may be too slow to hear of the end
        next(batches)
    assert all(process.is_alive() for process in processes)
    batches.close()
    assert [process.exitcode for process in processes] == [0, 0]
    batches.close()


def test_impossible_numbers(data: TrainingData) -> None:
    for size, workers in ((0, 0), (4, -1), (4, 1000)):
        with pytest.raises(UsageError, match="take 0 to 64"):
            data.batches(size, 0, workers=workers)


SCRIPT = """
import sys
from earshot.lab.training.data import TrainingData
from earshot.lab.training.recipe import DataSettings
if __name__ == "__main__":
    data = TrainingData(DataSettings(sources=(sys.argv[1],)), 24_000, 1, 1200, progress=False)
    with data.batches(2, 0, workers=2) as batches:
        next(batches), next(batches)
        try:
            print(*[process.pid for process in batches._processes], flush=True)
            for _ in batches:
                pass
        except KeyboardInterrupt:
            pass
    print("closed", flush=True)
"""


def is_running(pid: int) -> bool:
    """False for one that has ended and waits to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or before it was read
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_do_not_outlive_a_killed_trainer(data: TrainingData, tmp_path: Path, how: signal.Signals) -> None:
    """Killed, or interrupted with Ctrl-C, which reaches the workers too and which they leave to the
    trainer."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    trainer = subprocess.Popen(
        [sys.executable, script, tmp_path / "voices"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert trainer.stdout is not None
        pids = [int(pid) for pid in trainer.stdout.readline().split()]
        assert [is_running(pid) for pid in pids] == [True, True]
        (os.killpg if how == signal.SIGINT else os.kill)(trainer.pid, how)
        printed, errors = trainer.communicate(timeout=30)
        deadline = time.monotonic() + 30
        while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [is_running(pid) for pid in pids] == [False, False]
    finally:
        with suppress(ProcessLookupError):  # what went wrong here must not take the processor from the next tests
            os.killpg(trainer.pid, signal.SIGKILL)
    assert (printed, errors) == (("closed\n", "") if how == signal.SIGINT else ("", ""))
