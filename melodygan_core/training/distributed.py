"""Collectives of data-parallel training, which torchrun starts; with one process each does nothing.

Every process computes the same whole batch, takes its shard, and averages gradients with the others. The result
is that of one process with the whole batch.

The gradients through all-gather and all-reduce are autograd Functions of our own. The R1 penalty is
differentiated twice, which `torch.distributed.nn.functional` supports as well, but torch 2.13 deprecates it in
favour of a private module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core.config import require

T = TypeVar("T")

# A process may wait while another decodes a dataset's sound. torchrun ends all processes when one dies.
_TIMEOUT = timedelta(days=1)
_TINY = 1e-30


@contextmanager
def process_group() -> Iterator[None]:
    """Joins the processes that torchrun started, each with the GPU of its local rank if there are GPUs.

    Raises:
        InputError: this machine has GPUs, but fewer than processes.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    if torch.cuda.is_available():
        gpus, local_rank = torch.cuda.device_count(), dist.get_node_local_rank()
        require(
            local_rank < gpus,
            "nproc-per-node",
            f"{local_rank + 1} or more",
            f"1 to {gpus}, one process per GPU",
        )
        torch.cuda.set_device(local_rank)
    dist.init_process_group(timeout=_TIMEOUT)
    yield
    # Not after an error: other processes may wait for this one, and torchrun ends them.
    dist.destroy_process_group()


def world_size() -> int:
    """Number of processes; 1 without torchrun."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main_process() -> bool:
    """Whether this process writes files and shows progress."""
    return rank() == 0


def local_shard(batch: Tensor) -> Tensor:
    """This process's shard of a whole batch: one of equal parts of the first dimension.

    Raises:
        InputError: the batch size is not a multiple of the number of processes.
    """
    require(
        len(batch) % world_size() == 0,
        "batch_size",
        len(batch),
        f"multiples of {world_size()}, the number of processes",
    )
    return batch.tensor_split(world_size())[rank()]


def sample_global(local_count: int, sample: Callable[[int], Tensor]) -> Tensor:
    """This process's shard of random numbers that are drawn for the whole batch, as one process would.

    Args:
        local_count: Examples in this process's shard.
        sample: Takes the size of the whole batch, returns random numbers for each example.
    """
    return local_shard(sample(world_size() * local_count))


class _AllGather(torch.autograd.Function):
    # Each of the two Functions is the other's gradient, so that they can be differentiated any number of times.
    @staticmethod
    def forward(ctx: Any, shard: Tensor) -> Tensor:
        shards = [torch.empty_like(shard, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(shards, shard.contiguous())
        return torch.cat(shards)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _ReduceScatter.apply(gradients[0])


class _ReduceScatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, batch: Tensor) -> Tensor:
        total = batch.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return local_shard(total)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _AllGather.apply(gradients[0])


class _AllReduce(torch.autograd.Function):
    # The losses of all processes depend on the sum: the gradient of a part is the sum of their gradients.
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _AllReduce.apply(gradients[0])


def all_gather_with_grad(shard: Tensor) -> Tensor:
    """The shards of all processes, in order, as one batch; gradients are summed over all processes' losses."""
    return shard if world_size() == 1 else _AllGather.apply(shard)


def global_norm(part: Tensor) -> Tensor:
    """Euclidean norm over all processes' parts, with gradients."""
    if world_size() == 1:
        return part.norm()
    # The gradient of a norm of zero is zero, that of the square root is infinite.
    return _AllReduce.apply(part.square().sum()).clamp_min(_TINY).sqrt()


@torch.no_grad()
def global_mean(part: Tensor) -> Tensor:
    """Mean over all processes, without gradients."""
    return part.detach() if world_size() == 1 else _AllReduce.apply(part) / world_size()


def broadcast(value: T) -> T:
    """The main process's value, in all processes; every process must call this."""
    if world_size() == 1:
        return value
    values: list[Any] = [value]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


@contextmanager
def main_process_first() -> Iterator[None]:
    """Runs a block in the main process, then in all others, which find the files that it wrote."""
    if not is_main_process():
        dist.barrier()
    yield
    if is_main_process() and world_size() > 1:
        dist.barrier()


class Dropout(nn.Dropout):
    """Dropout that is drawn for the whole batch, so that an example's does not depend on its process."""

    def forward(self, input: Tensor) -> Tensor:
        """(batch, ...) -> the same shape."""
        if world_size() == 1 or not self.training:
            return super().forward(input)
        shape = input.shape[1:]
        return input * sample_global(len(input), lambda n: F.dropout(input.new_ones(n, *shape), self.p))


class _LossModule(nn.Module):
    """Holds a module; its forward pass returns a loss that was computed with the module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, loss: Tensor) -> Tensor:
        return loss


def average_gradients(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Returns a function that a loss passes through, so that its backward pass averages the module's gradients.

    A task calls its modules in many ways, and a loss may depend on several modules. DistributedDataParallel
    allows that: its hooks are on the parameters, and its forward pass only prepares the next backward pass.

    Args:
        module: On its device; its weights become those of the main process.
    """
    if world_size() == 1:
        return lambda loss: loss
    # A frozen part, such as an encoder beside its decoder, gets no gradient.
    return nn.parallel.DistributedDataParallel(
        _LossModule(module), forward_sync_buffers=False, find_unused_parameters=True
    )
