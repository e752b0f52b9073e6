"""Compiles the kernels when they are first wanted, for the machine that trains."""

from __future__ import annotations

import logging
import platform
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType

log = logging.getLogger(__name__)

FLAGS = ["-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno"]


def supported() -> bool:
    """Whether this processor multiplies bfloat16: with AVX-512 at least."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
    except (OSError, IndexError):
        return False
    return {"avx512_bf16", "avx512bw", "avx512vl"} <= set(flags)


@cache
def kernels() -> ModuleType | None:
    """The compiled module; None where the processor or a compiler for it is missing."""
    if not supported():
        return None
    from torch.utils import cpp_extension

    source = Path(__file__).with_name("kernels.cpp")
    log.info("compiling kernels for training, once: a minute")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made: ModuleType = cpp_extension.load("earshot_training", [str(source)], extra_cflags=FLAGS)
    except (OSError, RuntimeError, ImportError) as error:
        log.warning("training goes on without its own kernels: they could not be compiled (%s)", error)
        return None
    made.keep_memory()
    return made
