"""How torch behaves on a thread that steps streams."""

from __future__ import annotations

import torch


def settle_thread() -> None:
    """Lets torch use the calling thread only, as there are as many such threads as cores. Numbers
    too small for the fast path of the processor, as fading silence makes them, count as zero."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
