"""Minibatch standard deviation, by which a discriminator recognises a generator that repeats itself."""

from __future__ import annotations

import torch
from torch import Tensor

from melodygan_core.training import distributed

GROUP = 8


def minibatch_stddev(h: Tensor) -> Tensor:
    """Minibatch standard deviation (arXiv 1710.10196) of the whole batch, also if several processes share it.

    Args:
        h: (n, width, ...), this process's shard.

    Returns:
        (n, 1, ...): at each position the standard deviation over a group of GROUP examples, averaged over the
        width. Examples beyond the last whole group get the mean of the groups.
    """
    batch = distributed.all_gather_with_grad(h)
    group = min(GROUP, len(batch))
    usable = len(batch) // group * group
    grouped = batch[:usable].reshape(group, -1, *batch.shape[1:])
    std = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=1)
    per_example = std.repeat(group, *[1] * (std.ndim - 1))
    mean = per_example.detach().mean(dim=0, keepdim=True)
    rest = mean.expand(len(batch) - usable, *per_example.shape[1:])
    return distributed.local_shard(torch.cat([per_example, rest]))[:, None]
