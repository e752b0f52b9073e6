"""Builds the native engine. Without a compiler everything else is installed, and the torch engine
serves."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pybind11
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOTS = ("codec", "protocol", "recording", "server", "client", "lab", "web")
"""Folders that are installed as packages below `earshot`, so that no other project meets a package
named `server`."""
NATIVE = Path("codec/engine/native")
WARNINGS = ["-Wall", "-Wextra"]
WITHOUT = (
    "Earshot is installed without its native engine; torch serves, which is several times slower. To get it: install a "
    "C++ compiler (Debian and Ubuntu: apt-get install g++), then install Earshot again.\n"
)  # pip shows it with --verbose only; earshot.codec.engine.choice says it when a model is loaded


def kernel_flags() -> dict[str, list[str]]:
    """Returns the compiler flags of single files, from the one place that has them."""
    lines = (NATIVE / "flags.txt").read_text().splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines if not line.startswith("#")}


class BuildNative(build_ext):
    def build_extension(self, ext: Any) -> None:
        """Compiles each file of kernels for its own instruction set, and all others for any
        processor."""
        unix = self.compiler.compiler_type != "msvc"
        x86 = self.plat_name.endswith(("x86_64", "amd64"))
        general = ["-O3", "-std=c++17", "-fvisibility=hidden", "-g0", *WARNINGS]
        if not unix:
            general = ["/O2", "/std:c++17", "/EHsc"]
        own = kernel_flags() if unix and x86 else {}

        def compiled(source: str) -> list[str]:
            flags = general + own.get(Path(source).name, [])
            folders = [str(NATIVE), *ext.include_dirs]
            objects: list[str] = self.compiler.compile(
                [source], output_dir=self.build_temp, include_dirs=folders, extra_postargs=flags
            )
            return objects

        with ThreadPoolExecutor(os.cpu_count() if unix else 1) as pool:
            ext.extra_objects = [name for names in pool.map(compiled, ext.sources) for name in names]
        ext.depends += ext.sources
        ext.sources = []
        super().build_extension(ext)

    def run(self) -> None:
        super().run()
        if not all(Path(self.get_ext_fullpath(ext.name)).is_file() for ext in self.extensions):
            sys.stderr.write(WITHOUT)


LANGUAGE_MODEL = NATIVE / "integer_lm.cpp"
"""Source of a module of its own, which shares nothing with the engine."""


def extension(name: str, sources: list[Path]) -> Extension:
    return Extension(
        f"earshot.codec.engine.native.{name}",
        sources=sorted(map(str, sources)),
        depends=[*sorted(map(str, NATIVE.glob("*.h"))), str(NATIVE / "flags.txt")],
        include_dirs=[pybind11.get_include()],
        language="c++",
        optional=True,
    )


engine = extension("_native", [path for path in NATIVE.glob("*.cpp") if path != LANGUAGE_MODEL])
setup(
    packages=[
        *find_packages(include=["earshot", "earshot.*"]),
        *(f"earshot.{name}" for root in ROOTS for name in find_packages(include=[root, f"{root}.*"])),
    ],
    package_dir={f"earshot.{root}": root for root in ROOTS},
    ext_modules=[engine, extension("_integer_lm", [LANGUAGE_MODEL])],
    cmdclass={"build_ext": BuildNative},
)
