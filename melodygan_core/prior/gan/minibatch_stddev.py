"""How much a batch varies, for a discriminator to see: a generator that repeats itself is told apart."""

from __future__ import annotations

import torch
from torch import Tensor

from melodygan_core.training import distributed

GROUP = 8


def minibatch_stddev(h: Tensor) -> Tensor:
    """Minibatch standard deviation (arXiv 1710.10196), of the whole batch if several processes share it.

    Args:
        h: (n, width, ...)

    Returns:
        (n, 1, ...): at each place the standard deviation over a group of the batch, averaged over the width;
        examples beyond the last whole group get the mean of the groups.
    """
    batch = distributed.all_gather_with_grad(h)
    group = min(GROUP, len(batch))
    usable = len(batch) // group * group
    grouped = batch[:usable].reshape(group, -1, *batch.shape[1:])
    std = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=1)
    found = std.repeat(group, *[1] * (std.ndim - 1))
    rest = found.detach().mean(dim=0, keepdim=True).expand(len(batch) - usable, *found.shape[1:])
    return distributed.local_shard(torch.cat([found, rest]))[:, None]
