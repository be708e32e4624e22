"""A generator and a discriminator of latent sequences, coherent over any length (Musika, arXiv 2208.08706).

A token is made from style coordinates and noise at its place and a little to each side, so that any length can
be made at once and a longer piece begins like a shorter one. Musika makes patch by patch and leaves the seams
to the discriminator, which sees two neighbours; here convolutions go on across the border, and there is none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core.config import TemporalGanConfig
from melodygan_core.prior.gan.minibatch_stddev import minibatch_stddev

_START = 4
_NOISE_SCALE = 0.1


def _pooled(x: Tensor, positions: int) -> Tensor:
    """(n, tokens, dim) -> (n, positions, dim), the mean of each stretch."""
    return x.reshape(x.shape[0], positions, -1, x.shape[2]).mean(dim=2)


class _Modulated(nn.Module):
    """A layer, noise, and a norm whose scale and shift the style sets (AdaIN-like).

    Every second layer doubles the positions, by one matrix for the earlier and one for the later of each two:
    what only repeats them leaves neighbours alike. The others are convolutions.
    """

    def __init__(self, width: int, style_dim: int, *, doubling: bool) -> None:
        super().__init__()
        self.doubling = nn.Linear(width, 2 * width) if doubling else None
        self.conv = None if doubling else nn.Conv1d(width, width, 3, padding=1)
        self.noise_scale = nn.Parameter(torch.full((width,), _NOISE_SCALE))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.style = nn.Linear(style_dim, 2 * width)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """X (n, t or t / 2, width), style (n, t, style_dim), noise (n, t, 1) -> (n, t, width)."""
        if self.doubling is not None:
            y = self.doubling(x).reshape(len(x), -1, x.shape[2])
        else:
            assert self.conv is not None
            y = self.conv(x.transpose(1, 2)).transpose(1, 2)
        y = y + noise * self.noise_scale
        scale, shift = self.style(style).chunk(2, dim=2)
        return F.leaky_relu(self.norm(y) * (1 + scale) + shift, 0.2)


class Generator(nn.Module):
    """noise (and a condition) -> standardised latents of any length.

    Args:
        config: Sizes.
        latent_dim: Of the autoencoder.
        conditions: How many conditions there are; 0 for none.
    """

    def __init__(self, config: TemporalGanConfig, latent_dim: int, conditions: int) -> None:
        super().__init__()
        self.config = config
        style_dim = config.style_dim + config.global_dim
        self.embedding = nn.Embedding(conditions, config.global_dim) if conditions else None
        self.start = nn.Linear(style_dim + config.local_dim, config.width)
        self.blocks = nn.ModuleList(
            _Modulated(config.width, style_dim, doubling=k % 2 == 0) for k in range(2 * config.stages)
        )
        self.head = nn.Linear(config.width, latent_dim)

    def forward(self, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        """Makes the tokens between the margins of what it is given.

        Args:
            noise: (n, margin + tokens + margin, noise_dim), multiples of `config.margin`; see piece_noise.
            condition: (n,) or None.

        Returns:
            (n, tokens, latent_dim)
        """
        c = self.config
        local_style, whole, local, layers = noise.split(
            [c.style_dim, c.global_dim, c.local_dim, 2 * c.stages], dim=2
        )
        if self.embedding is not None:
            assert condition is not None
            whole = whole + self.embedding(condition)[:, None]
        style = torch.cat([local_style, whole], dim=2)
        tokens = noise.shape[1]
        first = _pooled(style, tokens // c.margin)
        x = self.start(torch.cat([first, local[:, :: c.margin]], dim=2))
        for k, block in enumerate(self.blocks):
            positions = x.shape[1] * (2 if k % 2 == 0 else 1)
            # Each position has noise of its own, whatever the resolution: every n-th value of the layer's.
            drawn = layers[:, :: tokens // positions, k : k + 1]
            x = block(x, _pooled(style, positions), drawn)
        return self.head(x[:, c.margin : -c.margin])


class Discriminator(nn.Module):
    """Two neighbouring patches of standardised latents -> one logit, with a projection of the condition.

    Args:
        config: Sizes.
        latent_dim: Of the autoencoder.
        conditions: How many conditions there are; 0 for none.
    """

    def __init__(self, config: TemporalGanConfig, latent_dim: int, conditions: int) -> None:
        super().__init__()
        width = config.width
        self.start = nn.Conv1d(latent_dim, width, 1)
        self.blocks = nn.ModuleList(
            nn.Conv1d(width, width, 4, stride=2, padding=1) for _ in range(config.stages + 1)
        )
        self.last = nn.Linear(_START * (width + 1), width)
        self.head = nn.Linear(width, 1)
        self.embedding = nn.Embedding(conditions, width) if conditions else None

    def forward(self, latents: Tensor, condition: Tensor | None = None) -> Tensor:
        """Latents (n, 2 * patch_tokens, latent_dim), condition (n,) or None -> logits (n,)."""
        h = self.start(latents.transpose(1, 2))
        for block in self.blocks:
            h = F.leaky_relu(block(h), 0.2)
        h = torch.cat([h, minibatch_stddev(h)], dim=1).flatten(1)
        h = F.leaky_relu(self.last(h), 0.2)
        logits = self.head(h).squeeze(1)
        if self.embedding is not None:
            assert condition is not None
            logits = logits + (self.embedding(condition) * h).sum(dim=1) / h.shape[1] ** 0.5
        return logits
