"""SEANet for training, as one differentiable function a row of convolutions: same weights, other
arithmetic.

Rows of channels lie one after the other in bfloat16, behind and before as many zeros as the layers
that read them pad with (`Rows`). A convolution is then a product of overlapping rows with a matrix,
forwards and backwards; kernels.cpp has it. Activations are applied as sums are written, and their
derivatives follow from what was written.

The file has over 400 lines, because a layer's forward and backward are read side by side."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from earshot.codec.model.seanet import (
    Activation,
    CausalConv1d,
    CausalConvTranspose1d,
    ResidualLSTM,
    ResidualUnit,
    SEANet,
)

Convolution = CausalConv1d | CausalConvTranspose1d

NONE, ELU = 0, 1
SPARE_ROWS = 64
"""Rows that the kernels may read, and multiply by zero, after the last one."""


class Rows:
    """bfloat16 [B, left + T + right, C] with zeros around and after it."""

    def __init__(self, batch: int, left: int, count: int, right: int, channels: int, widest: int) -> None:
        """`widest`: values of the widest row that the memory is read as."""
        self.batch, self.left, self.count, self.right, self.channels = batch, left, count, right, channels
        self.pitch = (left + count + right) * channels
        size = batch * self.pitch
        self.memory = torch.empty(size + SPARE_ROWS * widest + 64, dtype=torch.bfloat16)
        self.memory[size:].zero_()
        rows = self.memory[:size].view(batch, left + count + right, channels)
        if left:
            rows[:, :left].zero_()
        if right:
            rows[:, left + count :].zero_()

    def at(self, row: int, width: int) -> list[int]:
        """Where rows of `width` values begin that start `row` rows after the first real one."""
        return [(self.left + row) * self.channels, self.pitch, 0, width]

    def real(self) -> Tensor:
        """[B, T, C]."""
        rows = self.memory[: self.batch * self.pitch].view(self.batch, -1, self.channels)
        return rows[:, self.left : self.left + self.count]


@dataclass(frozen=True)
class Layer:
    """A convolution as a product. `down` is the stride of one, `up` that of a transposed one; the
    other is 1."""

    c_in: int
    c_out: int
    kernel: int
    down: int = 1
    up: int = 1
    transposed: bool = False

    @property
    def before(self) -> int:
        """Rows of zeros that its input begins with."""
        return self.kernel - self.down if not self.transposed else self.kernel // self.up - 1

    @property
    def after(self) -> int:
        """Rows of zeros that the gradient of its output ends with."""
        return self.kernel // self.down - 1 if not self.transposed else self.kernel - self.up

    @property
    def window(self) -> int:
        """Input values that a product takes in."""
        return self.kernel * self.c_in if not self.transposed else self.kernel // self.up * self.c_in

    def forwards(self, weight: Tensor) -> tuple[Tensor, bool]:
        """torch's weight as the kernels pack it: [window, up * c_out]; the newest input row is the
        last."""
        if not self.transposed:
            return weight.permute(2, 1, 0)[None, :, :, None], False
        return weight.view(self.c_in, self.c_out, -1, self.up).permute(2, 0, 3, 1)[None], True

    def weight(self, matrix: Tensor) -> Tensor:
        """The other way."""
        if not self.transposed:
            return matrix.view(self.kernel, self.c_in, self.c_out).permute(2, 1, 0)
        parts = matrix.view(-1, self.c_in, self.up, self.c_out).permute(1, 3, 0, 2).flip(2)
        return parts.reshape(self.c_in, self.c_out, self.kernel)

    def backwards(self, weight: Tensor) -> tuple[Tensor, bool]:
        """[gradient's window, down * c_in]: from the gradient of the output to that of the
        input."""
        if not self.transposed:
            return weight.view(self.c_out, self.c_in, -1, self.down).permute(2, 0, 3, 1)[None], True
        return weight.permute(2, 1, 0)[None, :, :, None], False

    @property
    def window_back(self) -> int:
        """Gradient values that a product takes in."""
        return self.kernel // self.down * self.c_out


def _layer(module: Convolution) -> Layer:
    kernel, stride = module.kernel_size[0], module.stride[0]
    if isinstance(module, CausalConvTranspose1d):
        return Layer(module.in_channels, module.out_channels, kernel, up=stride, transposed=True)
    return Layer(module.in_channels, module.out_channels, kernel, down=stride)


class _Network(torch.autograd.Function):
    """A row of convolutions, upsampling ones and residual units: [B, T, C] -> float32 [B, T',
    C']."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, stack: Stack, *parameters: Tensor) -> Tensor:
        y, ctx.kept = stack.forward(x, parameters)
        ctx.stack = stack
        ctx.save_for_backward(*parameters)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, parameters = ctx.stack.backward(gradient, ctx.saved_tensors, ctx.kept, ctx.needs_input_grad[0])
        return x, None, *parameters


@dataclass(frozen=True)
class Unit:
    """A residual unit's three convolutions, or one alone (`narrow` and `shortcut` are None)."""

    last: Layer
    narrow: Layer | None = None
    shortcut: Layer | None = None


class Stack:
    """What `_Network` runs; `first`: the activation on its input."""

    def __init__(self, modules: list[Any], first: int, kernels: ModuleType) -> None:
        self.kernels, self.first = kernels, first
        self.modules: list[Convolution] = []
        self.units: list[Unit] = []
        for module in modules:
            if isinstance(module, ResidualUnit):
                parts = [cast(CausalConv1d, part) for part in (module.narrow, module.shortcut, module.widen)]
                self.modules += parts
                narrow, shortcut, widen = map(_layer, parts)
                self.units.append(Unit(widen, narrow, shortcut))
            elif not isinstance(module, Activation):
                self.modules.append(module)
                self.units.append(Unit(_layer(module)))

    def __call__(self, x: Tensor) -> Tensor:
        parameters = [tensor for module in self.modules for tensor in (module.weight, module.bias)]
        return _Network.apply(x, self, *parameters)  # type: ignore[no-any-return, no-untyped-call]

    # -- forwards -----------------------------------------------------

    def _before(self, index: int) -> tuple[int, int]:
        """Rows of zeros that unit `index` wants before its activated input, and the widest row it
        reads."""
        if index == len(self.units):
            return 0, 0
        unit = self.units[index]
        layer = unit.narrow or unit.last
        return layer.before, layer.down * layer.c_in

    def forward(self, x: Tensor, parameters: tuple[Tensor, ...]) -> tuple[Tensor, list[Any]]:
        k, (batch, count, channels) = self.kernels, x.shape
        before, widest = self._before(0)
        heard = Rows(batch, before, count, 0, channels, max(widest, channels))
        k.place_rows(x[:, None], heard.memory, heard.at(0, channels), self.first)
        plain: Rows | None = None
        kept: list[Any] = []
        result = x.new_empty(0)
        for index, unit in enumerate(self.units):
            layer, at = unit.last, 2 * _convolutions(self.units[:index])
            end = index + 1 == len(self.units)
            following = None if end else self.units[index + 1]
            before, widest = self._before(index + 1)
            rows = count // layer.down if layer.up == 1 else count
            made, count = count, rows * layer.up
            out = raw = None
            if not end:
                out = Rows(batch, before, count, 0, layer.c_out, max(widest, layer.up * layer.c_out))
                if following is not None and following.narrow is not None:
                    raw = Rows(batch, 0, count, 0, layer.c_out, layer.up * layer.c_out)
            else:
                result = torch.empty(batch, count, layer.c_out)
            width = layer.up * layer.c_out
            if unit.narrow is None or unit.shortcut is None:
                weight, bias = parameters[at : at + 2]
                sources = [self._source(heard, layer, k.pack(*layer.forwards(weight)))]
                biases = bias.repeat(layer.up) if layer.up > 1 else bias
                kept.append((heard, None, None))
            else:
                hidden = Rows(batch, 0, made, 0, unit.narrow.c_out, unit.narrow.c_out)
                matrix = k.pack(*unit.narrow.forwards(parameters[at]))
                self._product(
                    [self._source(heard, unit.narrow, matrix)],
                    (batch, 1, made),
                    unit.narrow.c_out,
                    parameters[at + 1],
                    out=hidden,
                )
                sources = [
                    self._source(hidden, layer, k.pack(*layer.forwards(parameters[at + 4]))),
                    self._source(cast(Rows, plain), unit.shortcut, k.pack(*unit.shortcut.forwards(parameters[at + 2]))),
                ]
                biases = parameters[at + 3] + parameters[at + 5]
                kept.append((heard, hidden, plain))
            self._product(sources, (batch, 1, rows), width, biases.detach(), out=out, raw=raw, wide=result)
            if out is not None:
                heard, plain = out, raw
        return result, kept

    def _source(self, rows: Rows, layer: Layer, matrix: Tensor) -> tuple[Tensor, list[int], Tensor, int, int]:
        return rows.memory, rows.at(-layer.before, layer.down * layer.c_in), matrix, layer.window, 0

    def _product(
        self,
        sources: list[tuple[Tensor, list[int], Tensor, int, int]],
        counts: tuple[int, int, int],
        width: int,
        bias: Tensor | None = None,
        activation: int = ELU,
        out: Rows | None = None,
        raw: Rows | None = None,
        wide: Tensor | None = None,
        slope_of: Rows | None = None,
        plus: Rows | None = None,
    ) -> None:
        """`wide`: float32 for what the last layer gives, where there is neither `out` nor `raw`."""
        raw_memory, raw_at = (raw.memory, raw.at(0, width)) if raw else (None, [0] * 4)
        if out is None and raw is None:
            raw_memory, raw_at = wide, [0, cast(Tensor, wide)[0].numel(), 0, width]
        self.kernels.product(
            sources, counts, width, bias, activation,
            out.memory if out else None, out.at(0, width) if out else [0] * 4, raw_memory, raw_at,
            slope_of.memory if slope_of else None, slope_of.at(0, width) if slope_of else [0] * 4,
            plus.memory if plus else None, plus.at(0, width) if plus else [0] * 4, None, 0.0,
        )  # fmt: skip

    # -- backwards ----------------------------------------------------

    def backward(
        self, gradient: Tensor, parameters: tuple[Tensor, ...], kept: list[Any], wants_input: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        k, batch = self.kernels, gradient.shape[0]
        last = self.units[-1].last
        g = Rows(batch, 0, gradient.shape[1], last.after, last.c_out, last.up * last.c_out)
        k.place_rows(gradient[:, None], g.memory, g.at(0, last.c_out), NONE)
        found: list[list[Tensor]] = []
        result: Tensor | None = None
        for index in range(len(self.units) - 1, -1, -1):
            unit, at = self.units[index], 2 * _convolutions(self.units[:index])
            heard, hidden, plain = kept[index]
            layer = unit.last
            if unit.narrow is None or unit.shortcut is None:
                found.append(self._weights(heard, g, layer))
                entry, source = layer, g
            else:
                widened, shortened = self._weights(hidden, g, layer), self._weights(plain, g, unit.shortcut)
                inner = Rows(batch, 0, heard.count, unit.narrow.after, unit.narrow.c_out, unit.narrow.c_out)
                self._product(
                    [self._gradient(g, layer, parameters[at + 4])],
                    (batch, 1, heard.count), layer.c_in, out=inner, slope_of=hidden,
                )  # fmt: skip
                found.append([*self._weights(heard, inner, unit.narrow), *shortened, *widened])
                entry, source = unit.narrow, inner
            if index == 0 and not wants_input:
                break
            rows = heard.count // entry.down
            width = entry.down * entry.c_in
            if index == 0:
                result = torch.empty(batch, heard.count, entry.c_in)
                self._product(
                    [self._gradient(source, entry, parameters[at])], (batch, 1, rows), width, activation=self.first,
                    wide=result, slope_of=heard if self.first else None,
                )  # fmt: skip
                break
            before = self.units[index - 1].last
            earlier = Rows(batch, 0, heard.count, before.after, entry.c_in, max(width, before.up * before.c_out))
            if unit.shortcut is not None:
                beside = Rows(batch, 0, heard.count, 0, entry.c_in, width)
                self._product(
                    [self._gradient(g, unit.shortcut, parameters[at + 2])], (batch, 1, rows), width, raw=beside
                )
            else:
                beside = None
            self._product(
                [self._gradient(source, entry, parameters[at])], (batch, 1, rows), width,
                out=earlier, slope_of=heard, plus=beside,
            )  # fmt: skip
            g = earlier
        return result, [tensor for tensors in reversed(found) for tensor in tensors]

    def _gradient(self, g: Rows, layer: Layer, weight: Tensor) -> tuple[Tensor, list[int], Tensor, int, int]:
        matrix = self.kernels.pack(*layer.backwards(weight))
        return g.memory, g.at(0, layer.up * layer.c_out), matrix, layer.window_back, 0

    def _weights(self, x: Rows, g: Rows, layer: Layer) -> list[Tensor]:
        """Gradients of weight and bias."""
        width = layer.up * layer.c_out
        rows = x.count // layer.down
        matrix, bias = self.kernels.weights_gradient(
            x.memory, x.at(-layer.before, layer.down * layer.c_in), g.memory, g.at(0, width),
            (x.batch, 1, rows), layer.window, width, 1, 0,
        )  # fmt: skip
        return [layer.weight(matrix[0]), bias.view(layer.up, -1).sum(0) if layer.up > 1 else bias]


def _convolutions(units: list[Unit]) -> int:
    return sum(3 if unit.narrow is not None else 1 for unit in units)


class _LSTM(torch.autograd.Function):
    """Stacked LSTM with the skip over it, [B, T, C] -> float32 [B, T, C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: ModuleType, *parameters: Tensor) -> Tensor:
        batch, count, width = x.shape
        series = x.transpose(0, 1).reshape(-1, width).bfloat16()  # [T * B, C]
        kept = []
        for index in range(0, len(parameters), 4):
            w_in, w_hidden, b_in, b_hidden = parameters[index : index + 4]
            size = w_hidden.shape[1]
            gates = (series @ w_in.bfloat16().t()).float().add_(b_in + b_hidden)
            cells = torch.zeros(count + 1, batch, size)
            hidden = torch.zeros((count + 1) * batch + SPARE_ROWS, size, dtype=torch.bfloat16)
            kernels.lstm(
                gates, cells, hidden, kernels.pack(w_hidden.t()[None, None, :, None], False), count, batch, size
            )
            kept.append((series, gates, cells, hidden))
            series = hidden[batch : (count + 1) * batch]
        ctx.kept, ctx.kernels = kept, kernels
        ctx.save_for_backward(*parameters)
        return series.float().view(count, batch, width).transpose(0, 1) + x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        batch, count, width = gradient.shape
        back = gradient.transpose(0, 1).reshape(-1, width).float().contiguous()
        found: list[Tensor] = []
        for index in range(len(ctx.kept) - 1, -1, -1):
            series, gates, cells, hidden = ctx.kept[index]
            w_in, w_hidden = ctx.saved_tensors[4 * index : 4 * index + 2]
            size = w_hidden.shape[1]
            moved = torch.zeros(count * batch + SPARE_ROWS, 4 * size, dtype=torch.bfloat16)
            ctx.kernels.lstm_backward(
                gates, cells, back, moved, ctx.kernels.pack(w_hidden[None, None, :, None], False), count, batch, size
            )
            moved = moved[: count * batch]
            turned = moved.t()
            bias = moved.float().sum(0)
            found = [(turned @ series).float(), (turned @ hidden[: count * batch]).float(), bias, bias, *found]
            back = (moved @ w_in.bfloat16()).float()
        return back.view(count, batch, width).transpose(0, 1) + gradient, None, *found


def fits(net: SEANet) -> bool:
    """Whether all layers are of the kinds that the kernels know."""
    for layer in net.layers:
        parts: list[Any]
        if isinstance(layer, ResidualUnit):
            parts = [layer.narrow, layer.widen, layer.shortcut]
        elif isinstance(layer, CausalConv1d | CausalConvTranspose1d):
            parts = [layer]
        elif isinstance(layer, ResidualLSTM):
            if layer.lstm.hidden_size % 32:
                return False
            continue
        elif isinstance(layer, Activation):
            continue
        else:
            return False
        for part in parts:
            whole = isinstance(part, CausalConv1d | CausalConvTranspose1d) and part.dilation[0] == 1
            if not whole or part.kernel_size[0] % part.stride[0]:
                return False
    return True


class FastSEANet:
    """Runs a SEANet, on whole examples that begin on zeros: [B, C, T] -> [B, C', T']."""

    def __init__(self, net: SEANet, kernels: ModuleType) -> None:
        self.kernels = kernels
        self.stages: list[Stack | ResidualLSTM] = []
        waiting: list[Any] = []
        for layer in net.layers:
            if isinstance(layer, ResidualLSTM):
                self._stack(waiting)
                self.stages.append(layer)
                waiting = []
            else:
                waiting.append(layer)
        self._stack(waiting)

    def _stack(self, modules: list[Any]) -> None:
        if modules:
            first = ELU if isinstance(modules[0], Activation) else NONE
            self.stages.append(Stack(modules, first, self.kernels))

    def __call__(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        for stage in self.stages:
            if isinstance(stage, ResidualLSTM):
                weights = [weight for layer in stage.lstm.all_weights for weight in layer]
                x = _LSTM.apply(x, self.kernels, *weights)  # type: ignore[no-untyped-call]
            else:
                x = stage(x)
        return x.transpose(1, 2)
