"""Generator and discriminator of single latents, with an optional condition."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from melodygan_core.config import DenseGanConfig
from melodygan_core.prior.base import LatentSpace, Prior
from melodygan_core.prior.gan.layers import minibatch_stddev, truncated_noise


class _Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.norm = nn.LayerNorm(n_out) if norm else nn.Identity()
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.linear(x)))


class Generator(nn.Module):
    """noise (and a condition) -> standardised latents.

    Args:
        config: Sizes.
        latent_dim: Values in one latent.
        conditions: Number of conditions; 0 for none.
    """

    def __init__(self, config: DenseGanConfig, latent_dim: int, conditions: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.embedding = nn.Embedding(conditions, config.noise_dim) if conditions else None
        n_in = config.noise_dim * (2 if conditions else 1)
        sizes = [n_in, *[width] * config.layers]
        self.blocks = nn.Sequential(*[_Block(a, b, norm=True) for a, b in pairwise(sizes)])
        self.head = nn.Linear(width, latent_dim)

    def forward(self, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        """Noise (n, noise_dim), condition (n,) of indices or None -> latents (n, latent_dim)."""
        if self.embedding is not None:
            assert condition is not None
            noise = torch.cat([noise, self.embedding(condition)], dim=1)
        return self.head(self.blocks(noise))


class Discriminator(nn.Module):
    """Standardised latents -> one logit each, with a projection of the condition (arXiv 1802.05637).

    The last block also takes the minibatch standard deviation (arXiv 1710.10196), by which it recognises a
    generator that repeats itself.

    Args:
        config: Sizes.
        latent_dim: Values in one latent.
        conditions: Number of conditions; 0 for none.
    """

    def __init__(self, config: DenseGanConfig, latent_dim: int, conditions: int) -> None:
        super().__init__()
        width = config.hidden_size
        sizes = [latent_dim, *[width] * config.layers]
        self.blocks = nn.Sequential(*[_Block(a, b, norm=False) for a, b in pairwise(sizes)])
        self.last = _Block(width + 1, width, norm=False)
        self.head = nn.Linear(width, 1)
        self.embedding = nn.Embedding(conditions, width) if conditions else None

    def forward(self, latents: Tensor, condition: Tensor | None = None) -> Tensor:
        """Latents (n, latent_dim), condition (n,) or None -> logits (n,)."""
        h = self.blocks(latents)
        h = self.last(torch.cat([h, minibatch_stddev(h)], dim=1))
        logits = self.head(h).squeeze(1)
        if self.embedding is not None:
            assert condition is not None
            logits = logits + (self.embedding(condition) * h).sum(dim=1) / h.shape[1] ** 0.5
        return logits


class DenseGan(Prior):
    """A prior over single latents, independent of one another.

    Args:
        config: Sizes.
        space: Statistics and conditions of the latents.
    """

    config: DenseGanConfig

    def __init__(self, config: DenseGanConfig, space: LatentSpace) -> None:
        super().__init__(config, space)
        self.generator = Generator(config, space.latent_dim, len(space.conditions))

    @torch.no_grad()
    def sample(self, tokens: int, seed: int, condition: int | None = None, truncation: float = 0.0) -> Tensor:
        """Samples latents (tokens, latent_dim); see Prior.sample."""
        rng = torch.Generator().manual_seed(seed)
        noise = truncated_noise((tokens, self.config.noise_dim), truncation, rng).to(self.device)
        index = None if condition is None else torch.full((tokens,), condition, device=self.device)
        return self.generator(noise, index) * self.latent_std + self.latent_mean
