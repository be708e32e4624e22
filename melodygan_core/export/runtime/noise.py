"""Input of the GANs' generators, as `prior.gan` makes it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import TemporalGanConfig
from melodygan_core.export.runtime.torch_random import TorchRandom

# float32; the operations of numpy are typed as of any precision.
Noise = NDArray[Any]


def truncated_noise(rng: TorchRandom, limit: float, *shape: int) -> Noise:
    """Standard normal noise; values beyond `limit` standard deviations are drawn again. 0 is no limit."""
    noise = rng.randn(*shape)
    while limit and (outside := np.abs(noise) > limit).any():
        noise[outside] = rng.randn(int(outside.sum()))
    return noise


def coordinates(anchors: Noise, tokens: int, spacing: int) -> Noise:
    """Local style at each token: interpolated between anchors, at the variance of the anchors.

    Args:
        anchors: (count, style_dim), standard normal.
        tokens: Number of tokens.
        spacing: Tokens between two anchors.

    Returns:
        (tokens, style_dim)
    """
    position = np.arange(tokens) / np.float32(spacing)
    left = position.astype(np.int64)
    fade = (position - left)[:, None].astype(np.float32)
    mixed = (1 - fade) * anchors[left] + fade * anchors[left + 1]
    return mixed / np.sqrt((1 - fade) ** 2 + fade**2)


def piece_noise(config: TemporalGanConfig, tokens: int, seed: int, truncation: float) -> Noise:
    """Input of the temporal generator for one piece; the input of a longer piece starts with it.

    Args:
        config: Of the generator.
        tokens: Number of tokens, rounded up to whole margins.
        seed: Of the piece.
        truncation: Limit of the style in standard deviations; 0 for none.

    Returns:
        (margin + tokens + margin, noise_dim)
    """
    style_rng, global_rng, local_rng = (TorchRandom(seed + k) for k in range(3))
    blocks, spacing = 2 + -(-tokens // config.margin), config.anchor_patches * config.patch_tokens
    total = blocks * config.margin
    anchors = [
        truncated_noise(style_rng, truncation, config.style_dim) for _ in range(2 + (total - 1) // spacing)
    ]
    rest = config.local_dim + 2 * config.stages
    local = np.concatenate([local_rng.randn(config.margin, rest) for _ in range(blocks)])
    local_style = coordinates(np.stack(anchors), total, spacing)
    global_style = truncated_noise(global_rng, truncation, config.global_dim)
    return np.concatenate([local_style, np.tile(global_style, (total, 1)), local], axis=1)
