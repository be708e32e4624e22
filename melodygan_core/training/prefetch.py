"""Batches computed in a thread while the steps before them run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from melodygan_core.training import distributed

# The inputs of a step by name: tensors (batch, ...).
Batch = dict[str, Tensor]

BATCHES_AHEAD = 2


def prefetch(get_batch: Callable[[int], Batch], steps: range, device: torch.device) -> Generator[Batch]:
    """Yields this process's shard of each step's batch, on the device; the next batches are made in a thread.

    Args:
        get_batch: Returns the whole batch of a step on the CPU; a function of the step alone.
        steps: Which steps.
        device: Where the batches go. Copies to a GPU are asynchronous.

    Raises:
        Exception: what `get_batch` raises for a step, when it is that step's turn.
    """

    def load(step: int) -> Batch:
        shard = {name: distributed.local_shard(tensor) for name, tensor in get_batch(step).items()}
        return {name: t.pin_memory() for name, t in shard.items()} if device.type == "cuda" else shard

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        waiting = deque(thread.submit(load, step) for step in steps[:BATCHES_AHEAD])
        try:
            for step in steps:
                batch = waiting.popleft().result()
                if step + BATCHES_AHEAD in steps:
                    waiting.append(thread.submit(load, step + BATCHES_AHEAD))
                yield {name: t.to(device, non_blocking=True) for name, t in batch.items()}
        finally:
            for future in waiting:
                future.cancel()
