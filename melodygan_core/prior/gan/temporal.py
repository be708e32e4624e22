"""Generator and discriminator of latent sequences, coherent over any length (Musika, arXiv 2208.08706).

A token depends on the style and the noise at its position and its neighbours'. Any length is generated in one
pass, and a longer piece starts like a shorter one. Musika generates patch by patch and leaves the seams to the
discriminator, which sees two neighbouring patches. Here convolutions cross the border: there is no seam.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core.config import TemporalGanConfig
from melodygan_core.prior.base import LatentSpace, Prior
from melodygan_core.prior.gan.layers import minibatch_stddev, piece_noise

_START = 4
_NOISE_SCALE = 0.1


def _pooled(x: Tensor, positions: int) -> Tensor:
    """(n, tokens, dim) -> (n, positions, dim), the mean over equal groups of consecutive tokens."""
    return x.reshape(x.shape[0], positions, -1, x.shape[2]).mean(dim=2)


class _Modulated(nn.Module):
    """A layer, noise, and a norm whose scale and shift are computed from the style (AdaIN-like).

    Every second layer doubles the positions, with one matrix for the first and one for the second of each pair,
    because plain repetition makes neighbours alike. The other layers are convolutions.
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
        latent_dim: Values in one latent.
        conditions: Number of conditions; 0 for none.
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
        """Generates the tokens between the margins of the noise.

        Args:
            noise: (n, margin + tokens + margin, noise_dim), multiples of `config.margin`; see piece_noise.
            condition: (n,) or None.

        Returns:
            (n, tokens, latent_dim)
        """
        c = self.config
        local_style, global_style, local, layers = noise.split(
            [c.style_dim, c.global_dim, c.local_dim, 2 * c.stages], dim=2
        )
        if self.embedding is not None:
            assert condition is not None
            global_style = global_style + self.embedding(condition)[:, None]
        style = torch.cat([local_style, global_style], dim=2)
        tokens = noise.shape[1]
        first = _pooled(style, tokens // c.margin)
        x = self.start(torch.cat([first, local[:, :: c.margin]], dim=2))
        for k, block in enumerate(self.blocks):
            positions = x.shape[1] * (2 if k % 2 == 0 else 1)
            # Noise of its own for each position at any resolution: every n-th value of the layer's noise.
            layer_noise = layers[:, :: tokens // positions, k : k + 1]
            x = block(x, _pooled(style, positions), layer_noise)
        return self.head(x[:, c.margin : -c.margin])


class Discriminator(nn.Module):
    """Two neighbouring patches of standardised latents -> one logit, with a projection of the condition.

    Args:
        config: Sizes.
        latent_dim: Values in one latent.
        conditions: Number of conditions; 0 for none.
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


class TemporalGan(Prior):
    """A prior over sequences of latents, of any length in one pass; a longer piece begins with a shorter one.

    Args:
        config: Sizes.
        space: Statistics and conditions of the latents.
    """

    config: TemporalGanConfig

    def __init__(self, config: TemporalGanConfig, space: LatentSpace) -> None:
        super().__init__(config, space)
        self.generator = Generator(config, space.latent_dim, len(space.conditions))

    @property
    def border_tokens(self) -> int:
        """Tokens that start as one position: between two such groups a seam could be left."""
        return self.config.margin

    @torch.no_grad()
    def sample(self, tokens: int, seed: int, condition: int | None = None, truncation: float = 0.0) -> Tensor:
        """Samples latents (tokens, latent_dim); see Prior.sample."""
        noise = piece_noise(self.config, tokens, seed, truncation)[None].to(self.device)
        index = None if condition is None else torch.full((1,), condition, device=self.device)
        latents = self.generator(noise, index) * self.latent_std + self.latent_mean
        return latents[0, :tokens]
