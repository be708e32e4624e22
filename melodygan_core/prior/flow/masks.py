"""Which latents of a training example are known, and the error over the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def draw_masks(
    count: int, tokens: int, segments: float, prefix: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Random masks (count, tokens), 1 where latents are known.

    Args:
        count: Examples.
        tokens: Of each.
        segments: Share of the examples that are known but for one to three gaps of up to half the tokens.
        prefix: Share of the examples of which the beginning is known, up to three quarters.
        rng: Decides.
    """
    masks = np.zeros((count, tokens), np.float32)
    for mask, kind in zip(masks, rng.random(count), strict=True):
        if kind < prefix:
            mask[: rng.integers(1, 3 * tokens // 4 + 1)] = 1
        elif kind < prefix + segments:
            mask[:] = 1
            for _ in range(rng.integers(1, 4)):
                length = rng.integers(1, tokens // 2 + 1)
                first = rng.integers(0, tokens - length + 1)
                mask[first : first + length] = 0
    return masks


def masked_error(made: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Returns the mean squared error over the tokens of weight 1 of each example, and over the examples.

    Args:
        made: (n, tokens, latent_dim).
        wanted: The same shape.
        weight: (n, tokens, 1), 0 or 1.
    """
    error = ((made - wanted).square().mean(dim=2, keepdim=True) * weight).sum(dim=(1, 2))
    return (error / weight.sum(dim=(1, 2)).clamp_min(1)).mean()
