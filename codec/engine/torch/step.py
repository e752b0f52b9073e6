"""A step of many streams as matrix products: the layers of codec/model/seanet.py and
codec/model/quantizer.py, laid out for speed.

Sound is time-major, [B, T, C], so that the window of a convolution lies in memory as one row, and a
layer is one product of such rows and its weights. A layer keeps the same state as its module in
seanet.py, with time and channels swapped. Every function depends only on its arguments, on the
device and in the precision that the weights were laid out for."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from earshot.codec.engine.base import FrameCodes
from earshot.codec.model.network import Encodec
from earshot.codec.model.postfilter import TAPS, Postfilter
from earshot.codec.model.quantizer import ResidualVectorQuantizer
from earshot.codec.model.seanet import (
    Activation,
    CausalConv1d,
    CausalConvTranspose1d,
    ResidualLSTM,
    ResidualUnit,
    SEANet,
)


@dataclass(frozen=True)
class Place:
    """The device that computes, and the precision. State between steps, the cells of the LSTM and
    the search for codes are float32 in any case."""

    device: torch.device
    dtype: torch.dtype


CPU = Place(torch.device("cpu"), torch.float32)


class Product:
    """Maps x [..., n] to [..., m] by a weight [m, n] and a bias [m]."""

    def __init__(self, weight: Tensor, bias: Tensor | None, place: Place) -> None:
        self._weight = weight.detach().to(place.device, place.dtype).contiguous()
        self._bias = None if bias is None else bias.detach().to(place.device, place.dtype).contiguous()
        self._packed = place == CPU and _onednn()
        if self._packed:
            # Torch's own products use MKL, which is less than half as fast on other processors than
            # Intel's.
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, None)

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed:
            return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], ""))
        return F.linear(x, self._weight, self._bias)


@cache
def _onednn() -> bool:
    """Returns whether this build of torch can multiply by weights that were packed before."""
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return built and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Layer(Protocol):
    @property
    def kept(self) -> tuple[int, ...]:
        """Shape of the state that the layer keeps for a stream."""
        ...

    def step(self, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Steps over x [B, T, C_in] with the state [B, *kept]. Returns y [B, T', C_out] and the
        next state."""
        ...


class Convolution:
    """`CausalConv1d`: one product over the windows of the kept and the new samples."""

    def __init__(self, conv: CausalConv1d, place: Place) -> None:
        (self.kernel,), (self.stride,), (self.dilation,) = conv.kernel_size, conv.stride, conv.dilation
        self.kept = (conv.context, conv.in_channels)
        self.product = Product(conv.weight.transpose(1, 2).flatten(1), conv.bias, place)

    def step(self, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        if self.kernel == 1:
            return self.product(x), kept
        joined = torch.cat([kept.to(x.dtype), x], dim=1)
        batch, length, channels = joined.shape
        shape = (batch, x.shape[1] // self.stride, self.kernel, channels)
        strides = (length * channels, self.stride * channels, self.dilation * channels, 1)
        windows = joined.as_strided(shape, strides).reshape(*shape[:2], self.kernel * channels)
        return self.product(windows), joined[:, length - self.kept[0] :]


class NarrowConvolution:
    """`CausalConv1d` to a few channels, as at the end of a decoder. Windows would be many times
    larger than their product. Instead, one product computes what each input adds to the outputs of
    all windows that it is in; the sums run along the diagonals of that product."""

    def __init__(self, conv: CausalConv1d, place: Place) -> None:
        (self.kernel,), (self.dilation,) = conv.kernel_size, conv.dilation
        self.kept = (conv.context, conv.in_channels)
        self.product = Product(conv.weight.permute(2, 0, 1).flatten(0, 1), None, place)
        self.bias = cast(Tensor, conv.bias).detach().to(place.device, place.dtype)

    def step(self, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([kept.to(x.dtype), x], dim=1)
        batch, length, channels = *joined.shape[:2], len(self.bias)
        width = self.kernel * channels
        strides = (length * width, width, self.dilation * width + channels, 1)
        terms = self.product(joined).as_strided((batch, x.shape[1], self.kernel, channels), strides)
        return terms.sum(dim=2) + self.bias, joined[:, length - self.kept[0] :]


class Upsampling:
    """`CausalConvTranspose1d`: a step of the input gives `kernel` steps of the output, and the last
    of them overlap with those of the next step."""

    def __init__(self, conv: CausalConvTranspose1d, place: Place) -> None:
        (self.kernel,), (self.stride,) = conv.kernel_size, conv.stride
        if self.kernel != 2 * self.stride:
            raise NotImplementedError("upsampling by kernels other than two strides long")
        self.kept = (conv.overlap, conv.out_channels)
        bias = cast(Tensor, conv.bias).repeat(self.stride)
        self.product = Product(conv.weight.permute(2, 1, 0).flatten(0, 1), torch.cat([bias, 0 * bias]), place)

    def step(self, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        batch, time, _ = x.shape
        now, later = self.product(x).chunk(2, dim=2)
        before = torch.cat([kept.to(x.dtype).reshape(batch, 1, -1), later[:, : time - 1]], dim=1)
        return (now + before).view(batch, time * self.stride, -1), later[:, time - 1].view(batch, *self.kept)


class Recurrence:
    """`ResidualLSTM`: all gates of a layer are one product of its input beside its own last
    output."""

    def __init__(self, module: ResidualLSTM, place: Place) -> None:
        lstm = module.lstm
        self.size = lstm.hidden_size
        self.kept = (2, lstm.num_layers, self.size)
        self.products = []
        for index in range(lstm.num_layers):
            w_ih, w_hh, b_ih, b_hh = (
                cast(Tensor, getattr(lstm, f"{kind}_l{index}"))
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            self.products.append(Product(_gates(torch.cat([w_ih, w_hh], dim=1)), _gates(b_ih + b_hh), place))

    def step(self, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        h, c = ([*state.unbind(1)] for state in kept.unbind(1))
        series = []
        for now in x.unbind(1):
            y = now
            for index, product in enumerate(self.products):
                gates = product(torch.cat([y, h[index].to(x.dtype)], dim=1)).float()
                i, f, o = gates[:, : 3 * self.size].sigmoid().chunk(3, dim=1)
                c[index] = torch.addcmul(f * c[index], i, gates[:, 3 * self.size :].tanh())
                h[index] = o * c[index].tanh()
                y = h[index].to(x.dtype)
            series.append(y)
        return torch.stack(series, dim=1).add_(x), torch.stack(h + c, dim=1).view(len(x), *self.kept)


def _gates(x: Tensor) -> Tensor:
    """Reorders the gates from torch's i f g o to i f o g, so that gates with the same function lie
    side by side."""
    i, f, g, o = x.chunk(4)
    return torch.cat([i, f, o, g])


class Residual:
    """`ResidualUnit`: its second convolution and its shortcut are one product."""

    def __init__(self, unit: ResidualUnit, place: Place) -> None:
        self.narrow = Convolution(cast(CausalConv1d, unit.narrow), place)
        self.kept = self.narrow.kept
        weight = torch.cat([unit.widen.weight, unit.shortcut.weight], dim=1).squeeze(2)
        self.product = Product(weight, cast(Tensor, unit.widen.bias) + cast(Tensor, unit.shortcut.bias), place)

    def step(self, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        y, kept = self.narrow.step(F.elu(x), kept)
        return self.product(torch.cat([F.elu(y, inplace=True), x], dim=2)), kept


class Elu:
    kept = (0,)

    def step(self, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        return F.elu(x, inplace=True), kept


class Sharpening:
    """`Postfilter`, in float32 in any case."""

    def __init__(self, module: Postfilter, place: Place) -> None:
        self.kept = (module.kept + TAPS,)
        self._module = copy.deepcopy(module).to(place.device)

    def step(self, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        y, kept = self._module.step(x.transpose(1, 2), kept, "zeros", last=False)
        return y.transpose(1, 2), kept


def _layer(module: object, place: Place) -> Layer:
    match module:
        case Postfilter():
            return Sharpening(module, place)
        case CausalConv1d(stride=(1,)) if module.kernel_size[0] * module.out_channels < module.in_channels:
            return NarrowConvolution(module, place)
        case CausalConv1d():
            return Convolution(module, place)
        case CausalConvTranspose1d():
            return Upsampling(module, place)
        case ResidualLSTM():
            return Recurrence(module, place)
        case ResidualUnit():
            return Residual(module, place)
        case Activation():
            return Elu()
    raise NotImplementedError(f"a step of {type(module).__name__}")


class Network:
    """A SEANet. The state of a stream is zeros at its start."""

    def __init__(self, net: SEANet, place: Place) -> None:
        self.place = place
        self.layers = [_layer(module, place) for module in net.layers]
        self._sizes = [int(torch.Size(layer.kept).numel()) for layer in self.layers]
        self.size = sum(self._sizes)
        """Numbers in the state of a stream."""

    def step(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Steps over x [B, T, C_in] with the states [B, size]. Returns y [B, T', C_out] in float32
        and the next states."""
        split = torch.split(rows, self._sizes, dim=1)
        kept = [own.view(len(x), *layer.kept) for own, layer in zip(split, self.layers, strict=True)]
        y, kept = self.step_layers(x, kept)
        return y, torch.cat([own.reshape(len(x), -1) for own in kept], dim=1)

    def step_layers(self, x: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Does the same as `step`, with the state of each layer, [B, *kept], in a tensor of its
        own."""
        moved = []
        x = x.to(self.place.dtype)
        for layer, own in zip(self.layers, kept, strict=True):
            x, own = layer.step(x, own)
            moved.append(own.float())
        return x.float(), moved


class Codebooks:
    """`ResidualVectorQuantizer` with the same terms in the same order; what does not change is
    computed once."""

    def __init__(self, quantizer: ResidualVectorQuantizer, place: Place) -> None:
        books = quantizer.codebooks.detach().to(place.device, torch.float32)  # [Q, K, D]
        count, self._size, dimension = books.shape
        self._norms = torch.stack([book.t().pow(2).sum(0) for book in books])  # [Q, K]
        self._products = [Product(-2 * book, None, Place(place.device, torch.float32)) for book in books]
        self._firsts = np.arange(count, dtype=np.int64) * self._size
        self.entries = torch.cat([books.flatten(0, 1), books.new_zeros(1, dimension)])
        """All entries, and after them a row of zeros for places without a code."""

    def encode(self, latents: Tensor, n_q: int) -> Tensor:
        """Encodes latents [B, D] to int64 codes [B, n_q]."""
        residual, codes = latents, []
        for first, norms, product in zip(self._firsts[:n_q].tolist(), self._norms, self._products, strict=False):
            squares = residual.pow(2).sum(1, keepdim=True)
            index = product(residual).add_(squares).add_(norms).argmin(dim=1)
            residual = residual - F.embedding(index + first, self.entries)
            codes.append(index)
        return torch.stack(codes, dim=1)

    def rows(self, codes: Sequence[FrameCodes], width: int) -> NDArray[np.int64]:
        """Returns which rows of `entries` the codes of these frames are, [B, width]. Places beyond
        a frame's own codes point to the row of zeros."""
        rows = np.full((len(codes), width), len(self.entries) - 1)
        for row, own in zip(rows, codes, strict=True):
            row[: len(own)] = own + self._firsts[: len(own)]
        return rows

    def decode(self, rows: Tensor) -> Tensor:
        """Sums rows of `entries`: [B, n] to [B, D]."""
        return F.embedding(rows, self.entries).sum(dim=1)


class Weights:
    """The weights of a network as products, laid out at one place."""

    def __init__(self, network: Encodec, place: Place) -> None:
        self.encoder = Network(network.encoder, place)
        self.decoder = Network(network.decoder, place)
        self.codebooks = Codebooks(network.quantizer, place)


def lay_out(network: Encodec, place: Place = CPU) -> Weights:
    """Lays the weights out as they are at the first call, once for all engines, sessions and
    threads."""
    places = _laid_out.setdefault(network, {})
    if place not in places:
        with torch.inference_mode():
            places[place] = Weights(network, place)
    return places[place]


_laid_out: WeakKeyDictionary[Encodec, dict[Place, Weights]] = WeakKeyDictionary()
