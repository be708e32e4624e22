"""Batches made while the step before them runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from melodygan_core.training import distributed

# What a step is computed from, by name: tensors on the CPU, (batch, ...).
Batch = dict[str, Tensor]

READY = 2


def prefetch(draw: Callable[[int], Batch], steps: range, device: torch.device) -> Generator[Batch]:
    """This process's part of the batches of these steps, on the device; the next ones are drawn in a thread.

    Args:
        draw: The whole batch of a step, by the step alone.
        steps: Which.
        device: Where to. To a GPU, copies run beside the computing.

    Raises:
        Exception: what `draw` raised for a step, when it is that step's turn.
    """

    def make(step: int) -> Batch:
        part = {name: distributed.local_shard(whole) for name, whole in draw(step).items()}
        return {name: t.pin_memory() for name, t in part.items()} if device.type == "cuda" else part

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        waiting = deque(thread.submit(make, step) for step in steps[:READY])
        try:
            for step in steps:
                batch = waiting.popleft().result()
                if step + READY in steps:
                    waiting.append(thread.submit(make, step + READY))
                yield {name: t.to(device, non_blocking=True) for name, t in batch.items()}
        finally:
            for future in waiting:
                future.cancel()
