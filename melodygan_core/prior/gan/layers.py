"""Parts of both GANs: noise of the generators, minibatch standard deviation of the discriminators."""

from __future__ import annotations

import torch
from torch import Tensor

from melodygan_core.config import TemporalGanConfig
from melodygan_core.training import distributed

# Examples per group of the minibatch standard deviation.
GROUP = 8


def coordinates(anchors: Tensor, tokens: int, spacing: int, offset: Tensor) -> Tensor:
    """Local style at each token: interpolated between anchors, at the variance of the anchors.

    Args:
        anchors: (n, count, style_dim), standard normal.
        tokens: Number of tokens.
        spacing: Tokens between two anchors.
        offset: (n,) tokens from the first anchor to the first token.

    Returns:
        (n, tokens, style_dim)
    """
    position = (torch.arange(tokens, device=anchors.device) + offset[:, None]) / spacing
    left = position.long()
    assert int(left.max()) + 1 < anchors.shape[1], "anchors end before the tokens do"
    fade = (position - left)[:, :, None].to(anchors.dtype)
    row = torch.arange(len(anchors), device=anchors.device)[:, None]
    mixed = (1 - fade) * anchors[row, left] + fade * anchors[row, left + 1]
    return mixed / ((1 - fade).square() + fade.square()).sqrt()


def truncated_noise(shape: tuple[int, ...], limit: float, rng: torch.Generator) -> Tensor:
    """Standard normal noise; values beyond `limit` standard deviations are drawn again. 0 is no limit."""
    noise = torch.randn(shape, generator=rng)
    while limit and bool((outside := noise.abs() > limit).any()):
        noise[outside] = torch.randn(int(outside.sum()), generator=rng)
    return noise


def piece_noise(config: TemporalGanConfig, tokens: int, seed: int, truncation: float) -> Tensor:
    """Input of the generator for one piece; the input of a longer piece starts with it.

    Args:
        config: Of the generator.
        tokens: Number of tokens, rounded up to whole margins.
        seed: Of the piece.
        truncation: Limit of the style in standard deviations; 0 for none.

    Returns:
        (margin + tokens + margin, noise_dim)
    """
    # One random generator per kind of noise, read in order: a longer piece draws the same numbers first.
    style_rng, global_rng, local_rng = (torch.Generator().manual_seed(seed + k) for k in range(3))
    blocks, spacing = 2 + -(-tokens // config.margin), config.anchor_patches * config.patch_tokens
    total = blocks * config.margin
    anchors = torch.stack(
        [truncated_noise((config.style_dim,), truncation, style_rng) for _ in range(2 + (total - 1) // spacing)]
    )
    rest = config.local_dim + 2 * config.stages
    local = torch.cat([torch.randn(config.margin, rest, generator=local_rng) for _ in range(blocks)])
    local_style = coordinates(anchors[None], total, spacing, torch.zeros(1, dtype=torch.int64))[0]
    global_style = truncated_noise((config.global_dim,), truncation, global_rng)
    return torch.cat([local_style, global_style.expand(total, -1), local], dim=1)


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
