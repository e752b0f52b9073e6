"""Gets onnxruntime-web for a comparison, with npm, when it is needed. It is no part of Earshot."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

PACKAGE = "onnxruntime-web@1.30.0"
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
PATIENCE_S = 180.0


def fetch_runtime(folder: Path) -> str | None:
    """Puts the runtime's files into a folder. Returns None, or in a sentence why it cannot."""
    npm = shutil.which("npm")
    if npm is None:
        return f"There is no npm here, which gets {PACKAGE}: it is left out."
    command = [npm, "pack", PACKAGE, "--silent"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return f"npm did not bring {PACKAGE} in {PATIENCE_S:g} s: it is left out."
    packed = next(folder.glob("onnxruntime-web-*.tgz"), None)
    if done.returncode or packed is None:
        return f"npm did not bring {PACKAGE}: it is left out."
    with tarfile.open(packed) as archive:
        for name in FILES:
            member = archive.extractfile(f"package/dist/{name}")
            if member is None:
                return f"{PACKAGE} has no {name}: it is left out."
            (folder / name).write_bytes(member.read())
    packed.unlink()
    return None
