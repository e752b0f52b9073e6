"""One training run in several processes, as `torchrun` starts them; alone, everything here does
nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from earshot.codec.errors import UsageError


class Ranks:
    """This process among those of the run. Every method must be called by all of them in the same
    order."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))

    def start(self, device: str = "auto") -> torch.device:
        """Joins the others and returns the device of this one. Raises UsageError if there is none
        of that kind."""
        gpus = torch.cuda.device_count()
        kind, _, number = (device if device != "auto" else "cuda" if gpus else "cpu").partition(":")
        chosen = torch.device("cpu")
        if kind == "cuda":
            index = int(number or os.environ.get("LOCAL_RANK", "0")) if number.isdigit() or not number else gpus
            if index >= gpus:
                raise UsageError(f"there is no {device} here that torch can use; train with --device cpu")
            chosen = torch.device("cuda", index)
            torch.cuda.set_device(chosen)
        elif kind != "cpu" or number:
            raise UsageError(f"--device is auto, cpu, cuda or cuda:N, not {device}")
        if self.count > 1:
            dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        return chosen

    def stop(self) -> None:
        if self.count > 1:
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and shows."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """In place, over all processes."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def mean(self, tensor: Tensor) -> Tensor:
        """In place, over all processes."""
        return self.sum(tensor).div_(self.count) if self.count > 1 else tensor

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Makes them those of the first process, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def mean_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Each becomes the mean over all processes: one message for all of them."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        if self.count > 1:
            dist.barrier()
