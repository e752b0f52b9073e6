"""The codec of the page in a Worker of a browser, and onnxruntime-web beside it, in one run."""

from __future__ import annotations

import functools
import http.server
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser

from earshot import web
from earshot.codec.errors import EarshotError
from earshot.codec.pcm import Pcm
from earshot.codec.weights.load import load_model
from earshot.codec.weights.shape import PRETRAINED
from earshot.lab.pagebench.runtime import fetch_runtime

MODULES = ("relaxed.wasm", "simd.wasm")
RUNTIME = "onnxruntime-web"
FORM: Literal["matmul"] = "matmul"
"""Of the two graphs of lab/benchmark/graph.py the one that is faster here."""
FRAMES, HOP, CODEBOOKS = 75, 320, 8
"""A second of speech in each turn; 6 kbps."""
PAGE = Path(__file__).with_name("page")
TYPES = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
BENCH = """work => new Promise((done) => {
    const worker = new Worker("worker.js", { type: "module" });
    worker.onmessage = ({ data }) => { worker.terminate(); done(data); };
    worker.onerror = ({ message }) => done({ error: message });
    worker.postMessage(work);
})"""
Times = NDArray[np.float64]


@dataclass(frozen=True)
class CodecTimes:
    """What one codec took for each frame, in milliseconds."""

    name: str
    encode: Times
    decode: Times
    codes_differ: float
    """Part of the codes that differ from those of the first codec, 0..1."""

    @property
    def both(self) -> Times:
        return self.encode + self.decode


@dataclass(frozen=True)
class CodecRun:
    """All codecs of one run; the page's own come first, the one that it would choose before all."""

    times: tuple[CodecTimes, ...]
    left_out: str | None
    """Why there is no onnxruntime-web, in a sentence."""

    def times_faster(self) -> float | None:
        """Returns how many times longer onnxruntime-web took, by medians of both directions."""
        theirs = next((one for one in self.times if one.name.startswith(RUNTIME)), None)
        return None if theirs is None else float(np.median(theirs.both) / np.median(self.times[0].both))


def measure_codecs(browser: Browser, speech: Pcm, rounds: int, compare: bool) -> CodecRun:
    """Lets the default model's codecs step the same second of `speech` (24 kHz) in turn.

    Raises EarshotError if the browser fails."""
    with tempfile.TemporaryDirectory(prefix="earshot-") as name:
        folder = Path(name)
        for file in (PAGE / "worker.js", web.FOLDER / "codec" / "codec.js"):
            shutil.copy(file, folder)
        for module in MODULES:
            shutil.copy(web.FOLDER / "codec" / module, folder)
        shutil.copy(PRETRAINED / "default.safetensors", folder / "weights")
        speech[: FRAMES * HOP].astype("<f4").tofile(folder / "pcm")
        (folder / "index.html").write_text("<!doctype html><title>Earshot</title>", "utf-8")
        left_out = fetch_runtime(folder) if compare else f"{RUNTIME} was not asked for."
        graphs = [] if left_out else [{"form": FORM, "states": _write_graphs(folder)}]
        work = {"frames": FRAMES, "rounds": rounds, "codebooks": CODEBOOKS, "modules": MODULES, "graphs": graphs}
        with _serve(folder) as address:
            page = browser.new_page()
            page.goto(address)
            answer: Mapping[str, Any] = page.evaluate(BENCH, work)
            page.close()
    if "error" in answer:
        raise EarshotError(f"the browser could not run the codecs: {answer['error']}")
    return CodecRun(_times(answer["told"]), left_out)


def _times(told: Mapping[str, Mapping[str, list[float]]]) -> tuple[CodecTimes, ...]:
    first = np.array(next(iter(told.values()))["codes"])
    return tuple(
        CodecTimes(
            name, np.array(one["encode"]), np.array(one["decode"]), float(np.mean(np.array(one["codes"]) != first))
        )
        for name, one in told.items()
    )


def _write_graphs(folder: Path) -> dict[str, list[list[int]]]:
    """Writes the steps as ONNX graphs and returns the shapes of their states."""
    from earshot.lab.benchmark.graph import step_graph

    model, states = load_model("default"), {}
    for way in ("encode", "decode"):
        graph = step_graph(model, way, 1, CODEBOOKS, FORM)
        (folder / f"{way}-{FORM}.onnx").write_bytes(graph.SerializeToString())
        states[way] = [
            [axis.dim_value for axis in given.type.tensor_type.shape.dim]
            for given in graph.graph.input
            if given.name.startswith("state")
        ]
    return states


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder to a page that is isolated, so that its clock counts in steps of 5 us."""

    extensions_map = TYPES

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def _serve(folder: Path) -> Iterator[str]:
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
