"""Builds the native engine. Without a compiler everything is installed but that: the torch engine serves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = Path("codec/engine/native")
WARNINGS = ["-Wall", "-Wextra"]
KERNEL_FLAGS = {
    "kernels_avx2.cpp": ["-mavx2", "-mfma"],
    # gcc 12 takes the undefined vectors of its own AVX-512 header for a mistake.
    "kernels_avx512.cpp": [
        *("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"),
        *("-Wno-uninitialized", "-Wno-maybe-uninitialized"),
    ],
}
"""Flags of single files. On other processors, and with other compilers, these files are empty."""


class BuildNative(build_ext):
    def build_extension(self, ext: Any) -> None:
        """Each file of kernels is compiled for its own instruction set; the rest for any processor."""
        unix = self.compiler.compiler_type != "msvc"
        x86 = self.plat_name.endswith(("x86_64", "amd64"))
        general = ["-O3", "-std=c++17", "-fvisibility=hidden", "-g0", *WARNINGS]
        if not unix:
            general = ["/O2", "/std:c++17", "/EHsc"]
        objects = []
        for name in [source for source in ext.sources if Path(source).name in KERNEL_FLAGS]:
            flags = general + (KERNEL_FLAGS[Path(name).name] if unix and x86 else [])
            objects += self.compiler.compile(
                [name], output_dir=self.build_temp, include_dirs=[str(NATIVE)], extra_postargs=flags
            )
        ext.sources = [source for source in ext.sources if Path(source).name not in KERNEL_FLAGS]
        ext.extra_objects, ext.extra_compile_args = objects, general
        super().build_extension(ext)

    def run(self) -> None:
        super().run()
        for ext in self.extensions:
            if not Path(self.get_ext_fullpath(ext.name)).is_file():
                sys.stderr.write("Earshot is installed without its native engine; the torch engine serves instead.\n")


LANGUAGE_MODEL = NATIVE / "integer_lm.cpp"
"""A module of its own: it shares nothing with the engine."""


def extension(name: str, sources: list[Path]) -> Extension:
    return Extension(
        f"codec.engine.native.{name}",
        sources=sorted(map(str, sources)),
        depends=sorted(map(str, NATIVE.glob("*.h"))),
        include_dirs=[pybind11.get_include()],
        language="c++",
        optional=True,
    )


engine = extension("_native", [path for path in NATIVE.glob("*.cpp") if path != LANGUAGE_MODEL])
setup(ext_modules=[engine, extension("_integer_lm", [LANGUAGE_MODEL])], cmdclass={"build_ext": BuildNative})
