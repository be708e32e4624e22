"""Latents as the flow sees them: principal directions of about unit variance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from melodygan_core.codec.covariance import Covariance

# Predictions may leave the range of the training latents by this share of it.
_MARGIN = 0.05


class Whitening(nn.Module):
    """A rotation to principal directions, each divided by its standard deviation.

    A direction of less variance than a share of the mean is divided by that share: a few directions of a codec
    are dead, and amplified they would be noise that the flow has to learn.

    Args:
        latent_dim: Values in one latent.
    """

    mean: Tensor
    directions: Tensor
    scale: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("directions", torch.eye(latent_dim))
        self.register_buffer("scale", torch.ones(latent_dim))
        self.register_buffer("lowest", torch.full((latent_dim,), -10.0))
        self.register_buffer("highest", torch.full((latent_dim,), 10.0))

    @torch.no_grad()
    def fit(self, latents: Tensor, least_share: float) -> None:
        """Sets the directions, scales and range.

        Args:
            latents: (n, latent_dim) on the CPU.
            least_share: Lowest variance of a direction, as a share of their mean.
        """
        seen = Covariance()
        seen.add(latents.double())
        variance, directions = torch.linalg.eigh(seen.covariance)
        # Largest first, and of a sign that does not depend on the machine's library.
        variance, directions = variance.flip(0), directions.flip(1)
        largest = directions.abs().argmax(dim=0)
        directions = directions * directions[largest, torch.arange(len(variance))].sign()
        scale = variance.clamp_min(least_share * variance.mean()).sqrt()
        whitened = (latents.double() - seen.mean) @ directions / scale
        values = {"mean": seen.mean, "directions": directions, "scale": scale}
        for name, value in values.items():
            self.get_buffer(name).copy_(value.float())
        self._limit(whitened)

    @torch.no_grad()
    def take(self, other: Whitening, latents: Tensor) -> None:
        """Takes over the directions and scales of another whitening, with the range of these latents.

        Args:
            other: On the same device.
            latents: (n, latent_dim) on that device.
        """
        for name in ("mean", "directions", "scale"):
            self.get_buffer(name).copy_(other.get_buffer(name))
        self._limit(self(latents))

    def _limit(self, whitened: Tensor) -> None:
        low, high = whitened.amin(dim=0), whitened.amax(dim=0)
        margin = _MARGIN * (high - low)
        self.lowest.copy_((low - margin).float())
        self.highest.copy_((high + margin).float())

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (..., latent_dim) of the codec -> whitened, of the same shape."""
        return (latents - self.mean) @ self.directions / self.scale

    def inverse(self, whitened: Tensor) -> Tensor:
        """Whitened latents (..., latent_dim) -> latents of the codec."""
        return (whitened * self.scale) @ self.directions.T + self.mean

    def clamp(self, whitened: Tensor) -> Tensor:
        """Whitened latents (..., latent_dim), limited to the range of the training latents."""
        return whitened.clamp(self.lowest, self.highest)
