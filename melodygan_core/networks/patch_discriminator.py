"""A discriminator of spectrograms and its losses: it teaches the texture that a mean error averages away."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core.training import distributed

_EPSILON = 1e-5
# Features of each layer, (n, channels, frames, bands) each, then the logits (n, 1, frames, bands).
DiscriminatorOutput = list[Tensor]


class PatchDiscriminator(nn.Module):
    """Convolutions over time and frequency with a logit per patch (PatchGAN, arXiv 1611.07004).

    Args:
        planes: Input channels: 1 for a log-mel, 2 for real and imaginary part.
        channels: Width of the first convolution; the last has four times as many.
    """

    def __init__(self, planes: int, channels: int) -> None:
        super().__init__()
        sizes = [planes + 1, channels, 2 * channels, 4 * channels]
        layers = [nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(sizes)]
        layers.append(nn.Conv2d(sizes[-1], sizes[-1], 3, padding=1))
        self.layers = nn.ModuleList(nn.utils.parametrizations.weight_norm(layer) for layer in layers)
        self.head = nn.Conv2d(sizes[-1], 1, 3, padding=1)

    def forward(self, spectrogram: Tensor) -> DiscriminatorOutput:
        """(n, planes, frames, bands), at least 8 frames and bands -> features of each layer, then logits."""
        n, _, frames, bands = spectrogram.shape
        # The frequency of each patch, because realistic texture depends on it.
        height = torch.linspace(-1, 1, bands, device=spectrogram.device).expand(n, 1, frames, bands)
        h = torch.cat([spectrogram, height], dim=1)
        features = []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            features.append(h)
        return [*(f.float() for f in features), self.head(h).float()]


def hinge(real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]) -> Tensor:
    """Hinge loss of discriminators (arXiv 1705.02894), averaged over them.

    Args:
        real: Output of each discriminator on real spectrograms.
        fake: Output of each discriminator on generated spectrograms.
    """
    losses = [F.relu(1 - r[-1]).mean() + F.relu(1 + f[-1]).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).mean()


def adv_loss(fake: Sequence[DiscriminatorOutput]) -> Tensor:
    """Adversarial loss of the generating model: minus the mean logit, averaged over discriminators."""
    return torch.stack([-f[-1].mean() for f in fake]).mean()


def feature_matching(real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]) -> Tensor:
    """Mean absolute difference of the discriminators' features, relative to those of the real spectrograms."""
    distances = [
        F.l1_loss(f, r.detach()) / distributed.global_mean(r.abs().mean()).clamp_min(_EPSILON)
        for real_output, fake_output in zip(real, fake, strict=True)
        for r, f in zip(real_output[:-1], fake_output[:-1], strict=True)
    ]
    return torch.stack(distances).mean()
