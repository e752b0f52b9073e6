"""Which process runs which test when pytest-xdist runs them in two: one process runs the tests in
real time, one after another, and the other one all that computes, which gives way to the first."""

from __future__ import annotations

import os

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

MOST_PROCESSES = 2
"""More of them would compute while sound is played."""
FIRST = "gw0"
"""Name that xdist gives the first process. It runs the tests in real time."""
REAL_TIME = (
    "tests/client/",
    "tests/end_to_end/",
    "tests/lab/attacks/",
    "tests/lab/demo/",
    "tests/lab/listening/",
    "tests/lab/loadtest/",
    "tests/server/",
)
"""Folders whose tests start servers, play sound or wait. Most of the time they leave the processor
idle."""
LESS_URGENT = 10
"""Nice value of the processes that compute."""


class Scheduling(LoadScopeScheduling):
    """Hands out whole files, so that the fixtures of a module are made once, and all tests in real
    time as one piece, to `FIRST`."""

    def _split_scope(self, nodeid: str) -> str:
        return "real time" if nodeid.startswith(REAL_TIME) else nodeid.partition("::")[0]

    def _assign_work_unit(self, node: WorkerController) -> None:
        if "real time" in self.workqueue:
            self.workqueue.move_to_end("real time", last=node.gateway.id != FIRST)
        super()._assign_work_unit(node)


def give_way(worker: str) -> None:
    """Lowers the priority of this process, which has this name, if it is one that computes."""
    if worker != FIRST and hasattr(os, "nice"):
        os.nice(LESS_URGENT)
