"""What generators are fed: truncated noise, and style that wanders through a piece."""

from __future__ import annotations

import torch
from torch import Tensor

from melodygan_core.config import TemporalGanConfig


def coordinates(anchors: Tensor, tokens: int, spacing: int, offset: Tensor) -> Tensor:
    """Style at each token: anchors, linearly interpolated, at the variance of the anchors.

    Args:
        anchors: (n, count, style_dim), standard normal.
        tokens: Wanted.
        spacing: Tokens between two anchors.
        offset: (n,) tokens from the first anchor to the first token.

    Returns:
        (n, tokens, style_dim)
    """
    place = (torch.arange(tokens, device=anchors.device) + offset[:, None]) / spacing
    left = place.long()
    assert int(left.max()) + 1 < anchors.shape[1], "anchors end before the tokens do"
    fade = (place - left)[:, :, None].to(anchors.dtype)
    row = torch.arange(len(anchors), device=anchors.device)[:, None]
    mixed = (1 - fade) * anchors[row, left] + fade * anchors[row, left + 1]
    return mixed / ((1 - fade).square() + fade.square()).sqrt()


def truncated_noise(shape: tuple[int, ...], limit: float, rng: torch.Generator) -> Tensor:
    """Standard normal noise without values beyond `limit` standard deviations; 0 for no limit."""
    noise = torch.randn(shape, generator=rng)
    while limit and bool((outside := noise.abs() > limit).any()):
        noise[outside] = torch.randn(int(outside.sum()), generator=rng)
    return noise


def piece_noise(config: TemporalGanConfig, tokens: int, seed: int, truncation: float) -> Tensor:
    """The generator's input for a piece; that of a longer piece begins with it.

    Args:
        config: Of the generator.
        tokens: Wanted at least; as many as whole margins come.
        seed: Of the piece.
        truncation: Limit of the style in standard deviations; 0 for none.

    Returns:
        (margin + tokens + margin, noise_dim)
    """
    # Drawn one after the other, each kind from a generator of its own: what comes later changes nothing before.
    of_style, of_piece, of_places = (torch.Generator().manual_seed(seed + k) for k in range(3))
    blocks, spacing = 2 + -(-tokens // config.margin), config.anchor_patches * config.patch_tokens
    total = blocks * config.margin
    anchors = torch.stack(
        [truncated_noise((config.style_dim,), truncation, of_style) for _ in range(2 + (total - 1) // spacing)]
    )
    rest = config.local_dim + 2 * config.stages
    places = torch.cat([torch.randn(config.margin, rest, generator=of_places) for _ in range(blocks)])
    style = coordinates(anchors[None], total, spacing, torch.zeros(1, dtype=torch.int64))[0]
    whole = truncated_noise((config.global_dim,), truncation, of_piece)
    return torch.cat([style, whole.expand(total, -1), places], dim=1)
