"""Noise for generators: truncated noise, and a style that changes slowly through a piece."""

from __future__ import annotations

import torch
from torch import Tensor

from melodygan_core.config import TemporalGanConfig


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
