"""The engine for one CUDA GPU: a step is one graph over the first 1, 2, 4, 8, ... rows of all
states.

Rows have fixed places in the memory of the GPU. Each step gets two masks: the rows that take part,
and the rows that start anew; all others keep their state. So no shape and no address depends on
which streams step, and one recorded graph (CUDA graph) runs a step without the time that launching
its kernels one by one would take. Without recording, the same code runs on a CPU, for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earshot.codec.engine.base import FrameCodes
from earshot.codec.engine.torch.rows import Bank, RowEngine
from earshot.codec.engine.torch.step import Network, Place
from earshot.codec.errors import UsageError
from earshot.codec.model.model import Model
from earshot.codec.pcm import Pcm

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WARM_UP_RUNS = 2
"""Runs before a graph is recorded. Libraries choose kernels in them, and allocate memory that must
not be allocated while recording."""


def gpu(precision: str = "fp32", device: str = "cuda") -> Place:
    """Returns the GPU as the place of the arithmetic. Raises UsageError without a CUDA GPU, and for
    a precision that is not in `DTYPES`."""
    if precision not in DTYPES:
        raise UsageError(f"the cuda engine has no precision {precision!r}; choose one of {', '.join(DTYPES)}")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        why = "is a build for CPUs only" if torch.version.cuda is None else "finds no CUDA GPU and driver"
        raise UsageError(
            f"the cuda engine needs an NVIDIA GPU, and torch {torch.__version__} {why}. Install a CUDA build of torch "
            "on a machine with a GPU (https://pytorch.org/get-started/locally), or choose the engine auto"
        )
    return Place(torch.device(device), DTYPES[precision])


class MaskedBank(Bank):
    """A bank whose rows are cleared by the next step that covers them."""

    def __init__(self, network: Network, rows: int) -> None:
        super().__init__(network, rows)
        self.anew: NDArray[np.bool_] = np.zeros(rows, bool)

    def clear(self, row: int) -> None:
        self.anew[row] = True

    def copy(self, row: int, to: int) -> None:
        super().copy(row, to)
        self.anew[to] = self.anew[row]

    def save(self, row: int) -> bytes:
        return bytes(4 * self.network.size) if self.anew[row] else super().save(row)

    def restore(self, row: int, data: bytes) -> None:
        super().restore(row, data)
        self.anew[row] = False


class _Direction:
    """Encoding or decoding: fixed buffers on the device, their twins on the host, and a graph for
    every shape of step.

    `arithmetic` maps (inputs [n, ...], states [n, size], width) to (outputs [n, ...], next states).
    `width` is the number of codebooks, where it matters."""

    def __init__(
        self,
        bank: MaskedBank,
        arithmetic: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]],
        inputs: Tensor,
        outputs: Tensor,
        widths: Sequence[int],
    ) -> None:
        self.bank = bank
        self._arithmetic = arithmetic
        device = bank.network.place.device
        self._on_gpu = device.type == "cuda"
        self.inputs, self._outputs = _twin(inputs, self._on_gpu), _twin(outputs, self._on_gpu)
        """Inputs of a step, one row for each row of the bank."""
        self._masks = _twin(torch.zeros(2, len(inputs), dtype=torch.bool), self._on_gpu)
        self._device = [host.to(device, copy=True) for host in (self.inputs, self._outputs, self._masks)]
        self.sizes, self.widths = _doubling(len(inputs)), widths
        self._graphs: dict[tuple[int, int], Any] = {}
        self._stream: Any = torch.cuda.Stream(device) if self._on_gpu else None  # type: ignore[no-untyped-call]
        if self._on_gpu:
            self._record()

    def _record(self) -> None:
        pool = torch.cuda.graph_pool_handle()
        self._stream.wait_stream(torch.cuda.current_stream(self.bank.network.place.device))
        for size in reversed(self.sizes):
            for width in self.widths:
                with torch.cuda.stream(self._stream):
                    for _ in range(WARM_UP_RUNS):
                        self._run(size, width)
                self._stream.synchronize()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool, self._stream, capture_error_mode="thread_local"):
                    self._run(size, width)
                self._graphs[size, width] = graph

    def _run(self, size: int, width: int) -> None:
        """Runs the step on the device."""
        inputs, outputs, (moves, anew) = self._device
        inputs, outputs, moves, anew = inputs[:size], outputs[:size], moves[:size, None], anew[:size, None]
        states = self.bank.states[:size]
        # Not torch.where: it copies its 0 to the GPU, which a graph cannot record.
        before = states.masked_fill(anew, 0.0)
        given, after = self._arithmetic(inputs, before, width)
        states.copy_(torch.where(moves, after, before))
        outputs[:, : given.shape[1]].copy_(given)

    def step(self, rows: Sequence[int], width: int) -> Tensor:
        """Steps `rows`, whose `inputs` are set. Returns the outputs of all rows that the step
        covered, which the next step overwrites. `width` is the largest number of codebooks of any
        of them."""
        size = next(size for size in self.sizes if size > max(rows))
        width = next(own for own in self.widths if own >= width)
        moves, anew = self._masks
        moves[:] = False
        moves[list(rows)] = True
        anew.copy_(torch.from_numpy(self.bank.anew))
        inputs, outputs, masks = self._device
        with self._on_stream():
            inputs[:size].copy_(self.inputs[:size], non_blocking=True)
            masks.copy_(self._masks, non_blocking=True)
            if self._on_gpu:
                self._graphs[size, width].replay()
            else:
                self._run(size, width)
            self._outputs[:size].copy_(outputs[:size], non_blocking=True)
        if self._on_gpu:
            self._stream.synchronize()
        self.bank.anew[:size] = False
        return self._outputs

    def _on_stream(self) -> AbstractContextManager[object]:
        """Returns a context in which work goes to the stream of the steps. What happens to single
        rows between steps goes to another stream."""
        if not self._on_gpu:
            return nullcontext()
        self._stream.wait_stream(torch.cuda.current_stream(self.bank.network.place.device))
        return torch.cuda.stream(self._stream)


def _twin(x: Tensor, pinned: bool) -> Tensor:
    return x.pin_memory() if pinned else x


def _doubling(most: int) -> list[int]:
    """Returns 1, 2, 4, ... up to and including `most`."""
    return [*(1 << power for power in range((most - 1).bit_length())), most] if most else []


class CudaEngine(RowEngine[MaskedBank]):
    """`Engine` (codec/engine/base.py) on a GPU, exact in fp32: TF32 is off. Memory and graphs for
    all slots are allocated at the start. A step runs the smallest graph that holds its highest row.
    Raises UsageError without a CUDA GPU.

    `device` "cpu" runs the same masks without graphs, for tests."""

    def __init__(
        self,
        model: Model,
        encoders: int = 64,
        decoders: int = 64,
        precision: str = "fp32",
        device: str = "cuda",
    ) -> None:
        where = gpu(precision, device)
        self.name = f"cuda {precision}"
        if torch.get_float32_matmul_precision() != "highest":
            # This is a setting of the whole process; graphs keep the one they were recorded with.
            torch.set_float32_matmul_precision("highest")
        super().__init__(model, encoders, decoders, where, MaskedBank)
        config, books = model.config, self._codebooks
        silence = len(books.entries) - 1
        with torch.inference_mode():
            self._steps = {
                "encoder": _Direction(
                    self._banks["encoder"],
                    self._encode,
                    torch.zeros(encoders, config.hop_length),
                    torch.zeros(encoders, config.n_codebooks, dtype=torch.int64),
                    _doubling(config.n_codebooks),
                ),
                "decoder": _Direction(
                    self._banks["decoder"],
                    self._decode,
                    torch.full((decoders, config.n_codebooks), silence),
                    torch.zeros(decoders, config.hop_length),
                    [config.n_codebooks],
                ),
            }

    def _encode(self, pcm: Tensor, states: Tensor, n_q: int) -> tuple[Tensor, Tensor]:
        latents, after = self._banks["encoder"].network.step(pcm[:, :, None], states)
        return self._codebooks.encode(latents[:, 0], n_q), after

    def _decode(self, entries: Tensor, states: Tensor, _: int) -> tuple[Tensor, Tensor]:
        pcm, after = self._banks["decoder"].network.step(self._codebooks.decode(entries)[:, None], states)
        return pcm[:, :, 0], after

    def _encode_rows(self, rows: list[int], frames: Pcm, n_q: int) -> Tensor:
        step = self._steps["encoder"]
        step.inputs.numpy()[rows] = frames
        return step.step(rows, n_q)[rows]

    def _decode_rows(self, rows: list[int], codes: Sequence[FrameCodes]) -> Tensor:
        step, width = self._steps["decoder"], self.model.config.n_codebooks
        step.inputs.numpy()[rows] = self._codebooks.rows(codes, width)
        return step.step(rows, width)[rows]
