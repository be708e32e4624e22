"""What the processes of one training, started by torchrun, say to each other; one alone says nothing.

Each draws the same batches, takes its part, and averages its gradients with the others': the training is that
of one process with the whole batches.
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

# One that waits while another decodes a dataset's sound is not lost; torchrun ends all when one dies.
_TIMEOUT = timedelta(days=1)
_TINY = 1e-30


@contextmanager
def process_group() -> Iterator[None]:
    """Joins the processes that torchrun started, each with the GPU of its own number if there are any.

    Raises:
        InputError: this machine runs more processes than it has GPUs, and has some.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    if torch.cuda.is_available():
        there, local = torch.cuda.device_count(), dist.get_node_local_rank()
        require(local < there, "nproc-per-node", f"{local + 1} or more", f"1 to {there}, a process a GPU")
        torch.cuda.set_device(local)
    dist.init_process_group(timeout=_TIMEOUT)
    yield
    # Only when all went well: after an error others may wait for this one, and torchrun ends them.
    dist.destroy_process_group()


def world_size() -> int:
    """How many there are; 1 where torchrun started none."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main_process() -> bool:
    """Whether this is the one that writes files and shows progress."""
    return rank() == 0


def local_shard(whole: Tensor) -> Tensor:
    """This process's part of what was drawn for the whole batch: equal parts of the first dimension.

    Raises:
        InputError: the parts are not equal.
    """
    require(
        len(whole) % world_size() == 0,
        "batch_size",
        len(whole),
        f"multiples of {world_size()}, the number of processes",
    )
    return whole.tensor_split(world_size())[rank()]


def sample_global(count_here: int, draw: Callable[[int], Tensor]) -> Tensor:
    """This process's part of what is drawn at random for the whole batch: who has an example changes nothing.

    Args:
        count_here: Examples in this process's part.
        draw: Given how many examples the whole batch has, draws something for each.
    """
    return local_shard(draw(world_size() * count_here))


class _Whole(torch.autograd.Function):
    # The transpose of putting parts together is to sum what all have for a part; each is the other's gradient,
    # to any order, for a gradient penalty is differentiated twice.
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Part.apply(gradients[0])


class _Part(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, whole: Tensor) -> Tensor:
        total = whole.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return local_shard(total)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Whole.apply(gradients[0])


def all_gather_with_grad(part: Tensor) -> Tensor:
    """All processes' parts, in order, as one batch; its gradients are the sums of those of all losses."""
    return part if world_size() == 1 else _Whole.apply(part)


def broadcast(value: T) -> T:
    """What the leader has here, for all; every process must ask."""
    if world_size() == 1:
        return value
    held: list[Any] = [value]
    dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
    return held[0]


@contextmanager
def main_process_first() -> Iterator[None]:
    """Runs a block in the leader, then in all others: what it leaves on disk is made once."""
    if not is_main_process():
        dist.barrier()
    yield
    if is_main_process() and world_size() > 1:
        dist.barrier()


class _Total(torch.autograd.Function):
    # All losses depend on the sum, and so on each process's part: a part's gradient is the sum of theirs.
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        whole = part.clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].clone()
        dist.all_reduce(whole)
        return whole


def global_norm(part: Tensor) -> Tensor:
    """The Euclidean norm of all processes' parts together, with gradients."""
    if world_size() == 1:
        return part.norm()
    # Of a norm of zero the gradient is zero, that of a root is not.
    return _Total.apply(part.square().sum()).clamp_min(_TINY).sqrt()


@torch.no_grad()
def global_mean(part: Tensor) -> Tensor:
    """The mean over all processes, without gradients."""
    return part.detach() if world_size() == 1 else _Total.apply(part) / world_size()


class Dropout(nn.Dropout):
    """Dropout that is drawn for the whole batch, so that an example's does not depend on who has it."""

    def forward(self, input: Tensor) -> Tensor:
        """(batch, ...) -> the same shape."""
        if world_size() == 1 or not self.training:
            return super().forward(input)
        shape = input.shape[1:]
        return input * sample_global(len(input), lambda n: F.dropout(input.new_ones(n, *shape), self.p))


class _Announced(nn.Module):
    """A module whose forward pass is a loss that was computed with it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, loss: Tensor) -> Tensor:
        return loss


def average_gradients(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Lets the backward pass of every loss that is sent through average a module's gradients.

    The losses of a task call its modules in many ways, and one loss those of several. DistributedDataParallel
    needs none of that: its hooks lie on the parameters, and its forward pass says that a backward pass follows.

    Args:
        module: On its device; the leader's weights become everybody's.
    """
    if world_size() == 1:
        return lambda loss: loss
    # A part that stays as it is, such as an encoder beside its decoder, gets no gradient: not known in advance.
    return nn.parallel.DistributedDataParallel(
        _Announced(module), forward_sync_buffers=False, find_unused_parameters=True
    )
