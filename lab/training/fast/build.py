"""Compiles the kernels when they are first wanted, for the machine that trains."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import platform
import subprocess
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

from earshot.codec.weights.download import cache_folder

log = logging.getLogger(__name__)

NAME = "earshot_training"
SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = ["-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-std=c++20", "-shared", "-fPIC"]


def supported() -> bool:
    """Whether this processor multiplies bfloat16: with AVX-512 at least."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    return {"avx512_bf16", "avx512bw", "avx512vl"} <= set(_flags())


def bf16_pays(device: torch.device) -> bool:
    """Whether bfloat16 saves time. A processor that does not multiply it converts every number:
    on one with AVX2 a decoder's step took 7 times as long as in float32."""
    flags = _flags() if platform.machine() in ("x86_64", "AMD64") else []
    return device.type != "cpu" or not flags or "avx512_bf16" in flags


def _flags() -> list[str]:
    """What the processor can do, as Linux names it."""
    try:
        return Path("/proc/cpuinfo").read_text("utf-8").split("flags", 1)[1].split("\n", 1)[0].split()
    except (OSError, IndexError):
        return []


@cache
def kernels() -> ModuleType | None:
    """The compiled module; None where the processor or a compiler for it is missing."""
    if not supported():
        return None
    try:
        made = _load(_compiled())
    except (OSError, ImportError, subprocess.CalledProcessError) as error:
        log.warning("training goes on without its own kernels: they could not be compiled (%s)", error)
        return None
    made.keep_memory()
    return made


def _compiled() -> Path:
    """The library, named after all that it is made of; compiled if the cache does not hold it."""
    about = [torch.__version__, sysconfig.get_python_version(), *FLAGS, *sorted(_flags()), SOURCE.read_text("utf-8")]
    key = hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]
    library = cache_folder() / f"{NAME}-{key}.so"
    if library.exists():
        return library
    log.info("compiling kernels for training, once: a minute")
    library.parent.mkdir(parents=True, exist_ok=True)
    inside = Path(torch.__file__).parent
    includes = [inside / "include", inside / "include/torch/csrc/api/include", Path(sysconfig.get_path("include"))]
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        command = [
            os.environ.get("CXX", "c++"), *FLAGS, f"-DTORCH_EXTENSION_NAME={NAME}",
            *(part for path in includes for part in ("-isystem", str(path))),
            str(SOURCE), "-o", str(made), f"-L{inside / 'lib'}", "-lc10", "-ltorch_cpu", "-ltorch", "-ltorch_python",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        os.replace(made, library)  # two processes that compile at once do no harm
    return library


def _load(library: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(NAME, library)
    if spec is None or spec.loader is None:
        raise ImportError(f"{library} is no module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
