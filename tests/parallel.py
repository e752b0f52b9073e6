"""Which process runs which test when pytest-xdist runs them in several: one process runs the tests
in real time, one after another, and the others all that computes. They give way to the first."""

from __future__ import annotations

import os

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

MOST_PROCESSES = 3
"""The first mostly waits, so that two others find time beside it on two processors. Each was seen
to take up to 2.6 GB of memory."""
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
COMPUTE = ("tests/client/core/", "tests/end_to_end/test_train.py")
"""What only computes there."""
LESS_URGENT = 10
"""Nice value of the processes that compute, where the system has no idle priority."""


class Scheduling(LoadScopeScheduling):
    """Hands out whole files, so that the fixtures of a module are made once, and all tests in real
    time as one piece, to `FIRST`."""

    def _split_scope(self, nodeid: str) -> str:
        real_time = nodeid.startswith(REAL_TIME) and not nodeid.startswith(COMPUTE)
        return "real time" if real_time else nodeid.partition("::")[0]

    def _assign_work_unit(self, node: WorkerController) -> None:
        if "real time" in self.workqueue:
            self.workqueue.move_to_end("real time", last=node.gateway.id != FIRST)
        super()._assign_work_unit(node)


def give_way(worker: str) -> None:
    """Lets the process of this name, if it is one that computes, and its children compute only
    while no other wants to."""
    if worker == FIRST:
        return
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    elif hasattr(os, "nice"):
        os.nice(LESS_URGENT)
