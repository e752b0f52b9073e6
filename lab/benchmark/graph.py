"""One streaming step as an ONNX graph, for runtimes that the engines are compared with.

States are explicit: input `state0` comes back as output `next0`, and so on; zeros start a stream.
There are two forms of the same step. In `matmul` sound lies [B, T, C], and a convolution is a
product with the windows laid side by side. In `conv` sound lies [B, C, T], and a convolution is
ONNX's own."""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from earshot.codec.model.model import Model
from earshot.codec.model.network import without_postfilter
from earshot.codec.model.seanet import Activation, CausalConv1d, CausalConvTranspose1d, ResidualLSTM, ResidualUnit
from earshot.lab.benchmark.floor import Direction

OPSET, IR_VERSION = 17, 8
Form = Literal["matmul", "conv"]
FAR = 2**62
"""An end beyond every axis."""


def step_graph(model: Model, direction: Direction, batch: int, n_q: int, form: Form) -> onnx.ModelProto:
    """Builds the graph: `x`, PCM [B, hop], becomes `y`, codes [B, n_q], or the reverse. The graph
    ends before the postfilter."""
    model = Model(without_postfilter(model.network))
    graph = _Graph(model, batch, form)
    if direction == "encode":
        x, shape, kind = graph.pcm_in(), [batch, model.hop_length], TensorProto.FLOAT
        y, out, out_kind = (
            graph.search(graph.walk(model.network.encoder.layers, x), n_q),
            [batch, n_q],
            TensorProto.INT64,
        )
    else:
        x, shape, kind = graph.look_up(n_q), [batch, n_q], TensorProto.INT64
        pcm = graph.walk(model.network.decoder.layers, x)
        y, out, out_kind = graph.reshape(pcm, [batch, -1]), [batch, model.hop_length], TensorProto.FLOAT
    graph.node("Identity", [y], output="y")
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    outputs = [helper.make_tensor_value_info("y", out_kind, out)]
    for index, state in enumerate(graph.states):
        inputs.append(helper.make_tensor_value_info(f"state{index}", TensorProto.FLOAT, state))
        outputs.append(helper.make_tensor_value_info(f"next{index}", TensorProto.FLOAT, state))
    whole = helper.make_graph(graph.nodes, "step", inputs, outputs, graph.constants)
    made = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(made)
    return made


class _Graph:
    """Adds nodes from the input on; every method takes and returns names of tensors."""

    def __init__(self, model: Model, batch: int, form: Form) -> None:
        self.model, self.batch, self.form = model, batch, form
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.states: list[list[int]] = []
        self.time = 1 if form == "matmul" else 2

    def node(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        name = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        array: NDArray[Any] = np.ascontiguousarray(values, dtype)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def whole(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def state(self, shape: list[int]) -> int:
        self.states.append(shape)
        return len(self.states) - 1

    def reshape(self, x: str, shape: list[int]) -> str:
        return self.node("Reshape", [x, self.whole(*shape)])

    def slice(self, x: str, start: int, end: int, axis: int, step: int = 1, output: str | None = None) -> str:
        places = [self.whole(value) for value in (start, end, axis, step)]
        return self.node("Slice", [x, *places], output=output)

    def product(self, x: str, weight: Any, bias: Any = None) -> str:
        """Multiplies [..., K] by [K, N] and adds [N]."""
        y = self.node("MatMul", [x, self.constant(weight)])
        return y if bias is None else self.node("Add", [y, self.constant(bias)])

    def window(self, x: str, channels: int, context: int) -> str:
        """Puts the `context` samples before `x` in front of it."""
        if not context:
            return x
        shape = [self.batch, context, channels] if self.form == "matmul" else [self.batch, channels, context]
        index = self.state(shape)
        together = self.node("Concat", [f"state{index}", x], axis=self.time)
        self.slice(together, -context, FAR, self.time, output=f"next{index}")
        return together

    def pcm_in(self) -> str:
        return self.reshape("x", [self.batch, -1, 1] if self.form == "matmul" else [self.batch, 1, -1])

    def walk(self, layers: Any, x: str) -> str:
        time = self.model.hop_length if layers is self.model.network.encoder.layers else 1
        for layer in layers:
            if isinstance(layer, Activation):
                x = self.node("Elu", [x])
            elif isinstance(layer, CausalConv1d):
                x = self.convolution(layer, x, time)
                time //= layer.stride[0]
            elif isinstance(layer, CausalConvTranspose1d):
                x = self.upsampling(layer, x, time)
                time *= layer.stride[0]
            elif isinstance(layer, ResidualUnit):
                inner = self.convolution(cast(CausalConv1d, layer.narrow), self.node("Elu", [x]), time)
                inner = self.convolution(cast(CausalConv1d, layer.widen), self.node("Elu", [inner]), time)
                x = self.node("Add", [inner, self.convolution(cast(CausalConv1d, layer.shortcut), x, time)])
            elif isinstance(layer, ResidualLSTM):
                x = self.lstm(layer, x)
        return x

    def convolution(self, conv: CausalConv1d, x: str, time: int) -> str:
        weight, bias = conv.weight.numpy(), cast(Any, conv.bias).numpy()
        kernel, stride, dilation, channels = conv.kernel_size[0], conv.stride[0], conv.dilation[0], conv.in_channels
        together = self.window(x, channels, conv.context)
        if self.form == "conv":
            inputs = [together, self.constant(weight), self.constant(bias)]
            return self.node("Conv", inputs, kernel_shape=[kernel], strides=[stride], dilations=[dilation])
        count = time // stride
        if kernel == 2 * stride and dilation == 1 and stride > 1:
            blocks = self.reshape(together, [self.batch, count + 1, stride * channels])
            columns = [self.slice(blocks, 0, -1, 1), self.slice(blocks, 1, FAR, 1)]
        elif kernel == 1:
            columns = [together]
        else:
            ends = [(k * dilation, k * dilation + (count - 1) * stride + 1) for k in range(kernel)]
            columns = [self.slice(together, start, end, 1, stride) for start, end in ends]
        rows = columns[0] if len(columns) == 1 else self.node("Concat", columns, axis=2)
        return self.product(rows, weight.transpose(2, 1, 0).reshape(-1, len(weight)), bias)

    def upsampling(self, conv: CausalConvTranspose1d, x: str, time: int) -> str:
        """Adds a transposed convolution whose kernel is twice its stride, as all of EnCodec's are:
        every output is a product with two inputs."""
        weight, bias, stride = conv.weight.numpy(), cast(Any, conv.bias).numpy(), conv.stride[0]
        c_in, c_out = conv.in_channels, conv.out_channels
        if self.form == "matmul":
            together = self.window(x, c_in, 1)
            rows = self.node("Concat", [self.slice(together, 0, -1, 1), self.slice(together, 1, FAR, 1)], axis=2)
            halves = [weight[:, :, stride:], weight[:, :, :stride]]
            matrix = np.concatenate([half.transpose(0, 2, 1).reshape(c_in, -1) for half in halves])
            y = self.product(rows, matrix, np.tile(bias, stride))
            return self.reshape(y, [self.batch, time * stride, c_out])
        index = self.state([self.batch, c_out, conv.overlap])
        inputs = [x, self.constant(weight)]
        y = self.node("ConvTranspose", inputs, kernel_shape=[2 * stride], strides=[stride])
        self.slice(y, time * stride, FAR, 2, output=f"next{index}")
        first = self.node("Add", [self.slice(y, 0, stride, 2), f"state{index}"])
        done = first if time == 1 else self.node("Concat", [first, self.slice(y, stride, time * stride, 2)], axis=2)
        return self.node("Add", [done, self.constant(bias[:, None])])

    def lstm(self, layer: ResidualLSTM, x: str) -> str:
        """Adds an LSTM for one frame, so both forms see [B, C]."""
        lstm, size = layer.lstm, layer.lstm.hidden_size
        below = flat = self.reshape(x, [self.batch, size])
        for index in range(lstm.num_layers):
            own = {
                name: getattr(lstm, f"{name}_l{index}").numpy()
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            h, c = self.state([self.batch, size]), self.state([self.batch, size])
            matrix = np.concatenate([own["weight_ih"].T, own["weight_hh"].T])
            both = self.node("Concat", [below, f"state{h}"], axis=1)
            gates = self.product(both, matrix, own["bias_ih"] + own["bias_hh"])
            i, f, g, o = (self.slice(gates, k * size, (k + 1) * size, 1) for k in range(4))
            kept = self.node("Mul", [self.node("Sigmoid", [f]), f"state{c}"])
            new = self.node("Mul", [self.node("Sigmoid", [i]), self.node("Tanh", [g])])
            moved = self.node("Add", [kept, new], output=f"next{c}")
            below = self.node("Mul", [self.node("Sigmoid", [o]), self.node("Tanh", [moved])], output=f"next{h}")
        shape = [self.batch, 1, size] if self.form == "matmul" else [self.batch, size, 1]
        return self.reshape(self.node("Add", [below, flat]), shape)

    def search(self, x: str, n_q: int) -> str:
        """Finds the nearest entry e of each codebook: the one with the largest x . e - |e|^2 /
        2."""
        residual, codes = self.reshape(x, [self.batch, -1]), []
        for codebook in self.model.network.quantizer.codebooks[:n_q].numpy():
            likeness = self.product(residual, codebook.T, -0.5 * (codebook**2).sum(1))
            codes.append(self.node("ArgMax", [likeness], axis=1, keepdims=1))
            entry = self.node("Gather", [self.constant(codebook), self.reshape(codes[-1], [self.batch])], axis=0)
            residual = self.node("Sub", [residual, entry])
        return codes[0] if n_q == 1 else self.node("Concat", codes, axis=1)

    def look_up(self, n_q: int) -> str:
        books = self.model.network.quantizer.codebooks[:n_q].numpy()
        offsets = self.constant(np.arange(n_q) * books.shape[1], np.int64)
        entries = self.node(
            "Gather", [self.constant(books.reshape(-1, books.shape[2])), self.node("Add", ["x", offsets])], axis=0
        )
        latent = self.node("ReduceSum", [entries, self.whole(1)], keepdims=0)
        return self.reshape(latent, [self.batch, 1, -1] if self.form == "matmul" else [self.batch, -1, 1])
