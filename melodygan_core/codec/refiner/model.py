"""A flow from the decoder's output plus noise to the true targets of a codec."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from melodygan_core.config import RefinerConfig
from melodygan_core.networks import FlowNetwork, solve

# Residuals below this, in deviations of the training frames, are rounding.
MIN_NOISE = 1e-3


class Refiner(FlowNetwork):
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
        # Untrained, it returns what the decoder made.
        super().__init__(2 * values + latent_dim, values, config.width, config.blocks, config.kernel)
        self.config = config
        self.values, self.latent_dim = values, latent_dim
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
        inputs = torch.cat([(x - decoded) / self.noise_std, decoded, latents], dim=2)
        return decoded + self.noise_std * self.change_of(inputs, time)

    @torch.no_grad()
    def sample(self, decoded: Tensor, latents: Tensor) -> Tensor:
        """Refined targets (batch, tokens, values) of a decoder's output, in `config.steps` Euler steps.

        The noise of a token depends on its position alone, so that a longer piece begins as a shorter one does.
        """
        # numpy draws one number after the other; torch draws the end of a tensor differently.
        drawn = np.random.default_rng(0).standard_normal(decoded.shape[1:], np.float32)
        return self.integrate(decoded, latents, torch.from_numpy(drawn).to(decoded.device))

    def integrate(self, decoded: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
        """Refined targets of a decoder's output and noise.

        Args:
            decoded: (batch, tokens, values), by the codec's decoder.
            latents: (batch, tokens, latent_dim).
            noise: (tokens, values), or with a batch; standard normal.

        Returns:
            (batch, tokens, values)
        """
        x = decoded + self.config.noise * self.noise_std * noise
        return solve(lambda x, time: self(x, time, decoded, latents), x, self.config.steps)
