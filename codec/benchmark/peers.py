"""Others that are installed: the `encodec` and `transformers` packages on whole signals, Opus, and two runtimes on a
graph of the same step."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from codec.benchmark.contenders import Contender
from codec.benchmark.floor import Direction
from codec.benchmark.inputs import Inputs, again_and_again
from codec.benchmark.results import Key
from codec.config import ModelConfig
from codec.evaluation import opus
from codec.model import Model

ENCODEC, TRANSFORMERS, OPUS, ONNXRUNTIME, OPENVINO = "encodec", "transformers", "opus", "onnxruntime", "openvino"
EXTRA = "pip install 'earshot[bench]'"
Form = Literal["matmul", "conv"]
Step = Callable[[NDArray[Any]], NDArray[Any]]
"""x of one frame -> y; states stay inside."""


@dataclass(frozen=True)
class Task:
    """What a peer is asked for."""

    model: Model
    direction: Direction
    inputs: Inputs
    signal: Inputs
    """One stream, for what takes it whole."""
    precisions: Sequence[str]
    threads: int

    @property
    def batch(self) -> int:
        return int(self.inputs.codes.shape[1])

    @property
    def n_q(self) -> int:
        return int(self.inputs.codes.shape[2])

    def key(self, engine: str, precision: str = "fp32", way: str | None = None, whole: bool = False) -> Key:
        return Key(engine, precision, way, self.direction, None if whole else self.batch, paced=False)

    @property
    def pcm(self) -> NDArray[np.float32]:
        """The signal, [n]."""
        return self.signal.pcm.reshape(-1)

    @property
    def seconds(self) -> float:
        """Of the signal."""
        return len(self.signal.pcm) / self.model.frame_rate


def encodec_package() -> ModuleType:
    """It imports torchaudio, which has builds for few machines and which only its reading of files uses: an empty
    module stands in meanwhile."""
    if importlib.util.find_spec("torchaudio") or "torchaudio" in sys.modules:
        return importlib.import_module("encodec")
    stub = ModuleType("torchaudio")
    stub.__spec__ = ModuleSpec("torchaudio", None)
    sys.modules["torchaudio"] = stub
    try:
        return importlib.import_module("encodec")
    finally:
        del sys.modules["torchaudio"]


def encodec_model(config: ModelConfig) -> Any:
    """The package's model of this shape, with random weights."""
    package = encodec_package()
    shape = {
        "n_filters": config.n_filters,
        "dimension": config.dimension,
        "ratios": list(config.ratios),
        "norm": "weight_norm",
        "causal": True,
        "true_skip": False,
        "pad_mode": "reflect" if config.padding == "reflect" else "constant",
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.nn.utils.weight_norm` is deprecated", FutureWarning)
        encoder, decoder = package.modules.SEANetEncoder(**shape), package.modules.SEANetDecoder(**shape)
    quantizer = package.quantization.ResidualVectorQuantizer(
        dimension=config.dimension, n_q=config.n_codebooks, bins=config.codebook_size, kmeans_init=False
    )
    rates = list(config.bandwidths)
    return package.model.EncodecModel(encoder, decoder, quantizer, rates, config.sample_rate, 1).eval()


def encodec_offline(task: Task) -> Iterator[Contender]:
    model = encodec_model(task.model.config)
    model.set_target_bandwidth(task.n_q * task.model.config.kbps_per_codebook)
    signal = torch.from_numpy(task.pcm)[None, None]
    with torch.inference_mode():
        codes = model.encode(signal)

    @torch.inference_mode()
    def step() -> None:
        model.encode(signal) if task.direction == "encode" else model.decode(codes)

    yield Contender(task.key(ENCODEC, whole=True), step, task.seconds)


def transformers_offline(task: Task) -> Iterator[Contender]:
    from transformers import EncodecConfig, EncodecModel

    shape, kbps = task.model.config, task.n_q * task.model.config.kbps_per_codebook
    torch.manual_seed(0)
    config = EncodecConfig(
        target_bandwidths=list(shape.bandwidths),
        num_filters=shape.n_filters,
        hidden_size=shape.dimension,
        upsampling_ratios=list(shape.ratios),
        codebook_size=shape.codebook_size,
        pad_mode="reflect" if shape.padding == "reflect" else "constant",
    )
    make: Any = EncodecModel
    model = make(config).eval()
    signal = torch.from_numpy(task.pcm)[None, None]
    with torch.inference_mode():
        coded = model.encode(signal, bandwidth=kbps)

    @torch.inference_mode()
    def step() -> None:
        if task.direction == "encode":
            model.encode(signal, bandwidth=kbps)
        else:
            model.decode(coded.audio_codes, coded.audio_scales)

    yield Contender(task.key(TRANSFORMERS, whole=True), step, task.seconds)


def opus_voip(task: Task) -> Iterator[Contender]:
    """At the codec's rate; what PyAV takes to make frames is in it."""
    codec = opus.Opus(task.n_q * task.model.config.kbps_per_codebook)
    signal, rate = task.pcm, task.model.sample_rate
    header, packets = codec.encode(signal, rate)

    def step() -> None:
        codec.encode(signal, rate) if task.direction == "encode" else codec.decode(header, packets)

    yield Contender(task.key(OPUS, whole=True), step, task.seconds)


def graph_of(task: Task, form: Form) -> bytes:
    from codec.benchmark.graph import step_graph

    return bytes(step_graph(task.model, task.direction, task.batch, task.n_q, form).SerializeToString())


def stepped(task: Task, engine: str, precision: str, form: Form, step: Step) -> Contender:
    """A contender that steps over the task's frames."""
    frames = again_and_again(task.inputs.pcm if task.direction == "encode" else task.inputs.codes.astype(np.int64))
    key = task.key(engine, precision, form)
    return Contender(key, lambda: step(next(frames)), task.batch / task.model.frame_rate)


def onnxruntime(task: Task) -> Iterator[Contender]:
    """float32, and int8 weights with activations that are quantized on the way."""
    plain = graph_of(task, "matmul")  # its convolutions took 1.1 to 1.5 times as long
    for precision in task.precisions:
        if precision in ("fp32", "int8"):
            step = onnxruntime_step(plain if precision == "fp32" else quantized(plain), task.threads)
            yield stepped(task, ONNXRUNTIME, precision, "matmul", step)


def onnxruntime_step(graph: bytes, threads: int) -> Step:
    """x -> y. States go from output to input without being copied: two sets of them take turns."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    sizes = {own.name: own.shape for own in session.get_inputs()}
    (y_info,) = (own for own in session.get_outputs() if own.name == "y")
    y_type = np.int64 if y_info.type == "tensor(int64)" else np.float32
    x = ort.OrtValue.ortvalue_from_numpy(np.zeros(sizes["x"], np.float32 if y_type is np.int64 else np.int64))
    y = ort.OrtValue.ortvalue_from_numpy(np.zeros(y_info.shape, y_type))
    names = [name.removeprefix("state") for name in sizes if name != "x"]
    states = [
        {own: ort.OrtValue.ortvalue_from_numpy(np.zeros(sizes[f"state{own}"], np.float32)) for own in names}
        for _ in range(2)
    ]
    turns = []
    for now, after in (states, reversed(states)):
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", x)
        binding.bind_ortvalue_output("y", y)
        for own in names:
            binding.bind_ortvalue_input(f"state{own}", now[own])
            binding.bind_ortvalue_output(f"next{own}", after[own])
        turns.append(binding)

    def step(frame: NDArray[Any]) -> NDArray[Any]:
        x.update_inplace(frame)
        session.run_with_iobinding(turns[0])
        turns.reverse()
        return cast(NDArray[Any], y.numpy())

    return step


def quantized(graph: bytes) -> bytes:
    """With int8 weights, a scale for each column, and activations quantized row by row as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().addFilter(lambda record: "pre-process" not in record.getMessage())
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "small.onnx"
        plain.write_bytes(graph)
        options = {"MatMulConstBOnly": True}
        quantize_dynamic(
            plain, small, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8, per_channel=True,
            extra_options=options,
        )  # fmt: skip
        return small.read_bytes()


def openvino(task: Task) -> Iterator[Contender]:
    for precision in task.precisions:
        if precision in ("fp32", "bf16"):
            # Of all it is given, only its bf16 encoder is faster with convolutions: 0.8 times the time.
            form: Form = "conv" if (precision, task.direction) == ("bf16", "encode") else "matmul"
            step = openvino_step(graph_of(task, form), precision, task.threads)
            yield stepped(task, OPENVINO, precision, form, step)


def openvino_step(graph: bytes, precision: str, threads: int) -> Step:
    """As `onnxruntime_step`."""
    import openvino as ov

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "ENABLE_CPU_PINNING": False,
    }
    core = ov.Core()
    compiled = core.compile_model(core.read_model(graph), "CPU", settings)
    shapes = {own.any_name: tuple(own.shape) for own in compiled.inputs}
    whole = "y" in {own.any_name for own in compiled.outputs if own.element_type == ov.Type.i64}
    x = ov.Tensor(np.zeros(shapes["x"], np.float32 if whole else np.int64))
    names = [name.removeprefix("state") for name in shapes if name != "x"]
    states = [{own: ov.Tensor(np.zeros(shapes[f"state{own}"], np.float32)) for own in names} for _ in range(2)]
    turns = []
    for now, after in (states, reversed(states)):
        request = compiled.create_infer_request()
        request.set_tensor("x", x)
        for own in names:
            request.set_tensor(f"state{own}", now[own])
            request.set_tensor(f"next{own}", after[own])
        turns.append(request)

    def step(frame: NDArray[Any]) -> NDArray[Any]:
        x.data[:] = frame
        turns[0].infer()
        turns.reverse()
        return cast(NDArray[Any], turns[1].get_tensor("y").data)

    return step


@dataclass(frozen=True)
class Peer:
    packages: tuple[str, ...]
    how: str
    make: Callable[[Task], Iterator[Contender]]
    once: bool = False
    """It does not depend on the batch."""

    @property
    def installed(self) -> bool:
        return all(importlib.util.find_spec(package) for package in self.packages)


PEERS: dict[str, Peer] = {
    ENCODEC: Peer(("encodec", "einops"), f"{EXTRA} && pip install --no-deps encodec==0.1.1", encodec_offline),
    TRANSFORMERS: Peer(("transformers",), EXTRA, transformers_offline, once=True),
    ONNXRUNTIME: Peer(("onnx", "onnxruntime"), EXTRA, onnxruntime),
    OPENVINO: Peer(("onnx", "openvino"), EXTRA, openvino),
    OPUS: Peer((opus.PACKAGE,), EXTRA, opus_voip, once=True),
}


def what_is_missing(names: Sequence[str]) -> list[str]:
    """A line for each peer that is not installed, with how to get it."""
    return [f"{name} is not installed: {PEERS[name].how}" for name in names if not PEERS[name].installed]
