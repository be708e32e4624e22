"""A critic of pictures of sound, which teaches a model the texture that a mean error averages away."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core.training import distributed

_EPSILON = 1e-5
# What a critic says of one batch: the features of each layer, its logits last.
DiscriminatorOutput = list[Tensor]


class PatchDiscriminator(nn.Module):
    """Convolutions over time and frequency; judges place by place (PatchGAN, arXiv 1611.07004).

    Args:
        planes: Of a picture, such as 1 for a log-mel, 2 for real and imaginary part.
        channels: Of the first layer; the last has four times as many.
    """

    def __init__(self, planes: int, channels: int) -> None:
        super().__init__()
        sizes = [planes + 1, channels, 2 * channels, 4 * channels]
        layers = [nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(sizes)]
        layers.append(nn.Conv2d(sizes[-1], sizes[-1], 3, padding=1))
        self.layers = nn.ModuleList(nn.utils.parametrizations.weight_norm(layer) for layer in layers)
        self.head = nn.Conv2d(sizes[-1], 1, 3, padding=1)

    def forward(self, picture: Tensor) -> DiscriminatorOutput:
        """(n, planes, frames, bands), at least 8 of each -> features of each layer, logits (n, 1, ..) last."""
        n, _, frames, bands = picture.shape
        # What is right in the bass is wrong in the treble: each place knows how high it lies.
        height = torch.linspace(-1, 1, bands, device=picture.device).expand(n, 1, frames, bands)
        h = torch.cat([picture, height], dim=1)
        features = []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            features.append(h)
        return [*(f.float() for f in features), self.head(h).float()]


def hinge(real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]) -> Tensor:
    """The loss of critics that saw real and made pictures, each at its own resolution (arXiv 1705.02894)."""
    losses = [F.relu(1 - r[-1]).mean() + F.relu(1 + f[-1]).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).mean()


def adversarial(fake: Sequence[DiscriminatorOutput]) -> Tensor:
    """The loss of the model whose pictures the critics saw."""
    return torch.stack([-f[-1].mean() for f in fake]).mean()


def feature_matching(real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]) -> Tensor:
    """Mean absolute difference of the critics' features, relative to those of the real pictures."""
    distances = [
        F.l1_loss(f, r.detach()) / distributed.global_mean(r.abs().mean()).clamp_min(_EPSILON)
        for one, other in zip(real, fake, strict=True)
        for r, f in zip(one[:-1], other[:-1], strict=True)
    ]
    return torch.stack(distances).mean()
