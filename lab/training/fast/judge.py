"""The discriminator on the same kernels: its losses for the codec and for itself, a scale at a
time.

Its feature maps are the largest tensors of a training step. Here each is written once, [B, frames,
bins, filters] in bfloat16 between zeros; feature matching reads them where they lie, and its
gradient joins that of the layers above as these are written."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from earshot.lab.training.discriminator import Discriminator, STFTDiscriminator
from earshot.lab.training.fast.layers import NONE, SPARE_ROWS
from earshot.lab.training.losses import frames_gradient

LEAKY = 2
TINY = 1e-6
"""Least mean of the features that a difference is divided by."""


class Grid:
    """bfloat16 [B, frames, bins, C] with zeros around it: `above` frames before and after, `left`
    and `right` bins."""

    def __init__(
        self, batch: int, frames: int, bins: int, channels: int, above: int, left: int, right: int, widest: int
    ) -> None:
        self.batch, self.frames, self.bins, self.channels = batch, frames, bins, channels
        self.above, self.left, self.right = above, left, right
        self.line = (left + bins + right) * channels
        self.pitch = (frames + 2 * above) * self.line
        self.size = batch * self.pitch
        self.memory = torch.empty(self.size + SPARE_ROWS * widest + 64, dtype=torch.bfloat16)
        self.memory[self.size :].zero_()
        whole = self._whole()
        if above:
            whole[:, :above].zero_()
            whole[:, above + frames :].zero_()
        self.close()

    def _whole(self) -> Tensor:
        return self.memory[: self.size].view(self.batch, self.frames + 2 * self.above, -1, self.channels)

    def close(self) -> None:
        """Zeros beside the frames; a layer that writes bins by pairs may have written one too
        many."""
        whole = self._whole()
        if self.left:
            whole[:, :, : self.left].zero_()
        if self.right:
            whole[:, :, self.left + self.bins :].zero_()

    def at(self, frame: int, bin_: int, width: int) -> list[int]:
        """Where rows of `width` values begin that start so many frames and bins after the first
        real ones."""
        return [(self.above + frame) * self.line + (self.left + bin_) * self.channels, self.pitch, self.line, width]


@dataclass(frozen=True)
class Layer:
    """A convolution over frames (dilated) and bins (strided)."""

    c_in: int
    c_out: int
    tall: int
    wide: int
    stride: int
    dilation: int

    @property
    def above(self) -> int:
        return (self.tall - 1) // 2 * self.dilation

    @property
    def beside(self) -> int:
        return (self.wide - 1) // 2

    @property
    def after(self) -> int:
        """Bins of zeros beside the gradient of its output."""
        return (self.wide - 1) // 2 // self.stride

    def bins(self, bins: int) -> int:
        return (bins + 2 * self.beside - self.wide) // self.stride + 1

    def forwards(self, weight: Tensor) -> tuple[Tensor, bool]:
        """torch's weight as the kernels pack it: [tall, wide * c_in, c_out]."""
        return weight.permute(2, 3, 1, 0)[:, :, :, None], False

    def weight(self, matrix: Tensor) -> Tensor:
        return matrix.view(self.tall, self.wide, self.c_in, self.c_out).permute(3, 2, 0, 1)

    def backwards(self, weight: Tensor) -> tuple[Tensor, bool]:
        """[tall, window_back, stride * c_in]: from the gradient of the output to that of the
        input."""
        more = -self.wide % self.stride
        parts = nn.functional.pad(weight, (0, more)).view(self.c_out, self.c_in, self.tall, -1, self.stride)
        return parts.permute(2, 3, 0, 4, 1), True

    @property
    def window_back(self) -> int:
        """Gradient values that a product of a tap takes in."""
        return (self.wide + self.stride - 1) // self.stride * self.c_out


class FastScale:
    """One scale of the discriminator."""

    def __init__(self, scale: STFTDiscriminator, kernels: ModuleType) -> None:
        self.scale, self.kernels = scale, kernels
        self.convolutions = [cast(nn.Conv2d, layer) for layer in (*scale.layers, scale.last)]
        self.layers = [
            Layer(c.in_channels, c.out_channels, c.kernel_size[0], c.kernel_size[1], c.stride[1], c.dilation[0])
            for c in self.convolutions
        ]

    def __call__(self, spoken: Tensor, heard: Tensor, learn: bool) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 1, T] both -> hinge loss and feature loss for the codec, hinge loss for itself (zero
        if not `learn`)."""
        parameters = [tensor for layer in self.convolutions for tensor in (layer.weight, layer.bias)]
        return _Judge.apply(heard, spoken, self, learn, *parameters)  # type: ignore[no-any-return, no-untyped-call]

    # -- forwards -----------------------------------------------------

    def run(self, x: Tensor, matrices: list[Tensor], biases: list[Tensor]) -> tuple[list[Grid], Tensor]:
        """[B, T] -> what each layer reads (the features, after the spectrum) and the logits."""
        n, k = self.scale.window.numel(), self.kernels
        spectrum = torch.view_as_real(torch.fft.rfft(x.unfold(1, n, n // 4) * self.scale.window))
        batch, frames, bins, _ = spectrum.shape
        first = self.layers[0]
        grid = self._grid(batch, frames, bins, first)
        k.place_rows(spectrum, grid.memory, grid.at(0, 0, first.c_in), NONE)
        grids = [grid]
        for index, layer in enumerate(self.layers):
            source = (
                grid.memory, grid.at(-layer.above, -layer.beside, layer.stride * layer.c_in), matrices[index],
                layer.wide * layer.c_in, layer.dilation * grid.line,
            )  # fmt: skip
            bins = layer.bins(bins)
            counts = (batch, frames, bins)
            if index + 1 == len(self.layers):
                logits = torch.empty(batch, frames, bins, layer.c_out)
                at = [0, logits[0].numel(), bins * layer.c_out, layer.c_out]
                k.product([source], counts, layer.c_out, biases[index], NONE, *_NO, logits, at, *_NO, *_NO, None, 0.0)
                return grids, logits
            grid = self._grid(batch, frames, bins, self.layers[index + 1])
            at = grid.at(0, 0, layer.c_out)
            k.product([source], counts, layer.c_out, biases[index], LEAKY, grid.memory, at, *_NO, *_NO, *_NO, None, 0.0)
            grids.append(grid)
        raise ValueError("a discriminator without layers")

    @staticmethod
    def _grid(batch: int, frames: int, bins: int, reader: Layer) -> Grid:
        widest = reader.stride * reader.c_in
        return Grid(batch, frames, bins, reader.c_in, reader.above, reader.beside, reader.beside, widest)

    # -- backwards ----------------------------------------------------

    def back(
        self,
        gradient: Tensor,
        grids: list[Grid],
        weights: list[Tensor],
        learn: bool,
        reach: bool,
        goals: list[Grid] | None = None,
        pulls: list[float] | None = None,
    ) -> tuple[Tensor | None, list[Tensor]]:
        """From the gradient of the logits to that of the spectrum (if to `reach` it) and to those
        of weights and biases (if to `learn`). `pulls`: by how much each feature is drawn to that of
        `goals`."""
        k, last = self.kernels, self.layers[-1]
        batch, frames, bins = gradient.shape[:3]
        g = Grid(batch, frames, bins, last.c_out, last.above, last.after, last.after, last.c_out)
        k.place_rows(gradient, g.memory, g.at(0, 0, last.c_out), NONE)
        found: list[Tensor] = []
        for index in range(len(self.layers) - 1, -1, -1):
            layer, grid = self.layers[index], grids[index]
            if learn:
                matrix, bias = k.weights_gradient(
                    grid.memory, grid.at(-layer.above, -layer.beside, layer.stride * layer.c_in),
                    g.memory, g.at(0, 0, layer.c_out), (batch, frames, g.bins),
                    layer.wide * layer.c_in, layer.c_out, layer.tall, layer.dilation * grid.line,
                )  # fmt: skip
                found = [layer.weight(matrix), bias, *found]
            if index == 0 and not reach:
                return None, found
            matrix = k.pack(*layer.backwards(weights[index]))
            source = (
                g.memory, g.at(-layer.above, -layer.after, layer.c_out), matrix, layer.window_back,
                layer.dilation * g.line,
            )  # fmt: skip
            width = layer.stride * layer.c_in
            counts = (batch, frames, (grid.bins + layer.stride - 1) // layer.stride)
            if index == 0:
                spectrum = torch.empty(batch, frames, grid.bins, layer.c_in)
                at = [0, spectrum[0].numel(), grid.bins * layer.c_in, width]
                k.product([source], counts, width, None, NONE, *_NO, spectrum, at, *_NO, *_NO, None, 0.0)
                return spectrum, found
            before = self.layers[index - 1]
            room = before.after + layer.stride - 1
            earlier = Grid(batch, frames, grid.bins, layer.c_in, before.above, before.after, room, width)
            pull = (goals[index].memory, pulls[index]) if goals is not None and pulls is not None else (None, 0.0)
            k.product(
                [source], counts, width, None, LEAKY, earlier.memory, earlier.at(0, 0, width), *_NO,
                grid.memory, grid.at(0, 0, width), *_NO, *pull,
            )  # fmt: skip
            if grid.bins % layer.stride:
                earlier.close()
            g = earlier
        raise ValueError("a discriminator without layers")


_NO = (None, [0] * 4)


class _Judge(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, heard: Tensor, spoken: Tensor, fast: FastScale, learn: bool, *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        weights, biases = list(parameters[::2]), [bias.detach() for bias in parameters[1::2]]
        matrices = [
            fast.kernels.pack(*layer.forwards(weight)) for layer, weight in zip(fast.layers, weights, strict=True)
        ]
        real, real_logits = fast.run(spoken[:, 0], matrices, biases)
        fake, fake_logits = fast.run(heard[:, 0], matrices, biases)
        apart, pulls = heard.new_zeros(()), [0.0]
        for a, b in zip(fake[1:], real[1:], strict=True):
            difference, size = fast.kernels.differences(a.memory, b.memory, a.size)
            count = a.batch * a.frames * a.bins * a.channels
            size = max(size, TINY * count) * (len(fast.layers) - 1)
            apart = apart + difference / size
            pulls.append(1 / size)
        ctx.set_materialize_grads(False)
        ctx.fast, ctx.learn, ctx.real, ctx.fake, ctx.pulls = fast, learn, real, fake, pulls
        ctx.length = heard.shape[2]
        ctx.save_for_backward(real_logits, fake_logits, *weights)
        critic = heard.new_zeros(())
        if learn:
            critic = (1 - real_logits).relu().mean() + (1 + fake_logits).relu().mean()
        return (1 - fake_logits).relu().mean(), apart, critic

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, adversarial: Tensor | None, features: Tensor | None, critic: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        real_logits, fake_logits, *weights = ctx.saved_tensors
        fast: FastScale = ctx.fast
        count = fake_logits.numel()
        gradient: Tensor | None = None
        found: list[Tensor | None] = [None] * (2 * len(weights))
        if ctx.needs_input_grad[0] and (adversarial is not None or features is not None):
            top = torch.zeros_like(fake_logits)
            if adversarial is not None:
                top = (fake_logits < 1).float() * (-adversarial / count)
            goals = pulls = None
            if features is not None:
                goals, pulls = ctx.real, [float(features) * pull for pull in ctx.pulls]
            spectrum, _ = fast.back(top, ctx.fake, weights, False, True, goals, pulls)
            gradient = frames_gradient(torch.view_as_complex(cast(Tensor, spectrum)), fast.scale.window, ctx.length)[
                :, None
            ]
        if critic is not None and ctx.learn:
            _, ours = fast.back((fake_logits > -1).float() * (critic / count), ctx.fake, weights, True, False)
            _, theirs = fast.back((real_logits < 1).float() * (-critic / count), ctx.real, weights, True, False)
            found = [a + b for a, b in zip(ours, theirs, strict=True)]
        return gradient, None, None, None, *found


def judge_fits(discriminator: Discriminator) -> bool:
    """Mono, and whole tiles of filters."""
    scale = cast(STFTDiscriminator, discriminator.scales[0])
    first = cast(nn.Conv2d, scale.layers[0])
    return first.in_channels == 2 and first.out_channels % 16 == 0
