"""A flow from the decoder's output plus noise to the true targets of a codec."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from melodygan_core.config import RefinerConfig
from melodygan_core.networks import ConvNeXtBlock

TIME_FEATURES = 64
# Residuals below this, in deviations of the training frames, are rounding.
MIN_NOISE = 1e-3


class Refiner(nn.Module):
    """(latents, decoded targets) -> targets with the detail that a mean error averages away.

    A rectified flow (arXiv 2209.03003) that starts near its end, as in shallow diffusion: at time 0 the decoded
    targets plus noise as strong as the decoder's error, at time 1 the true targets. The network predicts the
    true targets, and works at token rate.

    Args:
        config: Sizes.
        values: Values of a token.
        latent_dim: Values of a latent.
    """

    noise_std: Tensor

    def __init__(self, config: RefinerConfig, values: int, latent_dim: int) -> None:
        super().__init__()
        self.config = config
        self.values, self.latent_dim = values, latent_dim
        self.embed = nn.Linear(2 * values + latent_dim, config.width)
        self.time = nn.Sequential(
            nn.Linear(TIME_FEATURES, config.width),
            nn.SiLU(),
            nn.Linear(config.width, 2 * config.blocks * config.width),
        )
        self.blocks = nn.ModuleList(ConvNeXtBlock(config.width, config.kernel) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.change = nn.Linear(config.width, values)
        # Untrained, it returns what the decoder made.
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)
        # Root mean square of the decoder's error on validation music: on training music it would be too small.
        self.register_buffer("noise_std", torch.ones(values))

    def forward(self, x: Tensor, time: Tensor, decoded: Tensor, latents: Tensor) -> Tensor:
        """Predicts the true targets.

        Args:
            x: (batch, tokens, values), the flow at `time`.
            time: (batch,), in [0, 1).
            decoded: (batch, tokens, values), by the codec's decoder.
            latents: (batch, tokens, latent_dim).

        Returns:
            (batch, tokens, values)
        """
        h = self.embed(torch.cat([(x - decoded) / self.noise_std, decoded, latents], dim=2))
        modulation = self.time(_time_features(time)).unflatten(1, (len(self.blocks), 2, 1, -1))
        for k, block in enumerate(self.blocks):
            scale, shift = modulation[:, k].unbind(1)
            h = block(h * (1 + scale) + shift)
        return decoded + self.noise_std * self.change(self.norm(h))

    @torch.no_grad()
    def sample(self, decoded: Tensor, latents: Tensor) -> Tensor:
        """Refined targets (batch, tokens, values) of a decoder's output, in `config.steps` Euler steps.

        The noise of a token depends on its position alone, so that a longer piece begins as a shorter one does.
        """
        # numpy draws one number after the other; torch draws the end of a tensor differently.
        drawn = np.random.default_rng(0).standard_normal(decoded.shape[1:], np.float32)
        x = decoded + self.config.noise * self.noise_std * torch.from_numpy(drawn).to(decoded.device)
        for step in range(self.config.steps):
            time, rest = step / self.config.steps, (self.config.steps - step) / self.config.steps
            predicted = self(x, x.new_full((len(x),), time), decoded, latents)
            x = x + (predicted - x) * (1 / self.config.steps / rest)
        return x


def _time_features(time: Tensor) -> Tensor:
    """(batch,) in [0, 1] -> sines and cosines (batch, TIME_FEATURES) of frequencies from 1 to 1000."""
    half = TIME_FEATURES // 2
    frequency = torch.exp(math.log(1000.0) * torch.arange(half, device=time.device) / (half - 1))
    angle = time[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)
