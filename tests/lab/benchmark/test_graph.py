"""The graph that runtimes get is the torch step, frame after frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from earshot.codec.model.model import Model
from earshot.lab.benchmark.graph import Form, step_graph
from earshot.lab.benchmark.inputs import Inputs, inputs_of
from earshot.lab.benchmark.runtimes import onnxruntime_step, quantized

STREAMS, FRAMES, N_Q = 3, 6, 5


@pytest.fixture(scope="module")
def inputs(tiny_model: Model) -> Inputs:
    return inputs_of(tiny_model, STREAMS, FRAMES, N_Q)


def decoded(model: Model, codes: NDArray[np.int16]) -> NDArray[np.float32]:
    """Decodes [F, B, n_q] -> [F, B, hop] by torch in one step."""
    whole = torch.from_numpy(codes.astype(np.int64)).permute(1, 2, 0)
    with torch.inference_mode():
        pcm, _ = model.network.decoder.step(model.network.quantizer.decode(whole), None, "zeros", last=True)
    frames: NDArray[np.float32] = pcm.numpy().reshape(STREAMS, FRAMES, -1).swapaxes(0, 1)
    return frames


@pytest.mark.parametrize("form", ["matmul", "conv"])
def test_encoder(tiny_model: Model, inputs: Inputs, form: Form) -> None:
    step = onnxruntime_step(step_graph(tiny_model, "encode", STREAMS, N_Q, form).SerializeToString(), 1)
    codes = np.stack([step(frame).copy() for frame in inputs.pcm])
    assert len(np.unique(codes)) > 20
    assert np.array_equal(codes, inputs.codes)


@pytest.mark.parametrize("form", ["matmul", "conv"])
def test_decoder(tiny_model: Model, inputs: Inputs, form: Form) -> None:
    step = onnxruntime_step(step_graph(tiny_model, "decode", STREAMS, N_Q, form).SerializeToString(), 1)
    pcm = np.stack([step(frame.astype(np.int64)).copy() for frame in inputs.codes])
    expected = decoded(tiny_model, inputs.codes)
    assert np.abs(expected).max() > 1e-3
    assert np.abs(pcm - expected).max() < 1e-5


def test_dynamic_int8_stays_near(tiny_model: Model, inputs: Inputs) -> None:
    plain: Any = step_graph(tiny_model, "decode", STREAMS, N_Q, "matmul")
    small = quantized(plain.SerializeToString())
    assert b"MatMulInteger" in small
    step = onnxruntime_step(small, 1)
    pcm = np.stack([step(frame.astype(np.int64)).copy() for frame in inputs.codes])
    expected = decoded(tiny_model, inputs.codes)
    assert np.square(pcm - expected).mean() < 0.05 * np.square(expected).mean()
