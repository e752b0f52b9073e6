"""Runtimes that step an ONNX graph of one step of our codec: ONNX Runtime and OpenVINO."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from earshot.lab.benchmark.candidates import Candidate, Task
from earshot.lab.benchmark.inputs import cycled

if TYPE_CHECKING:
    from earshot.lab.benchmark.graph import Form

ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
Step = Callable[[NDArray[Any]], NDArray[Any]]
"""x of one frame -> y; states stay inside."""


def graph_of(task: Task, form: Form) -> bytes:
    """Returns the graph of the task's step as bytes."""
    from earshot.lab.benchmark.graph import step_graph

    return bytes(step_graph(task.model, task.direction, task.batch, task.n_q, form).SerializeToString())


def stepped(task: Task, engine: str, precision: str, form: Form, step: Step) -> Candidate:
    """Returns a candidate that steps over the task's frames."""
    frames = cycled(task.inputs.pcm if task.direction == "encode" else task.inputs.codes.astype(np.int64))
    key = task.key(engine, precision, form)
    return Candidate(key, lambda: step(next(frames)), task.batch / task.model.frame_rate)


def onnxruntime(task: Task) -> Iterator[Candidate]:
    """Yields float32, and int8 weights with activations that are quantized at each step."""
    plain = graph_of(task, "matmul")  # its convolutions took 1.1 to 1.5 times as long
    for precision in task.precisions:
        if precision in ("fp32", "int8"):
            step = onnxruntime_step(plain if precision == "fp32" else quantized(plain), task.threads)
            yield stepped(task, ONNXRUNTIME, precision, "matmul", step)


def onnxruntime_step(graph: bytes, threads: int) -> Step:
    """Returns what turns x into y. States go from output to input without a copy: two sets of them
    take turns."""
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
    """Returns the graph with int8 weights, a scale for each column, and activations that are
    quantized row by row at each step. Weights have 7 bits: sums of two products with 8 do not fit
    into the 16 bits of processors with AVX2 and no VNNI."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().addFilter(lambda record: "pre-process" not in record.getMessage())
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "small.onnx"
        plain.write_bytes(graph)
        options = {"MatMulConstBOnly": True}
        quantize_dynamic(
            plain, small, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8, per_channel=True,
            reduce_range=True, extra_options=options,
        )  # fmt: skip
        return small.read_bytes()


def openvino(task: Task) -> Iterator[Candidate]:
    """Yields float32 and bf16."""
    for precision in task.precisions:
        if precision in ("fp32", "bf16"):
            # Of all it is given, only its bf16 encoder is faster with convolutions: 0.8 times the
            # time.
            form: Form = "conv" if (precision, task.direction) == ("bf16", "encode") else "matmul"
            step = openvino_step(graph_of(task, form), precision, task.threads)
            yield stepped(task, OPENVINO, precision, form, step)


def openvino_step(graph: bytes, precision: str, threads: int) -> Step:
    """Returns what turns x into y, as `onnxruntime_step` does."""
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
