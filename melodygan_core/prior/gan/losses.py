"""Adversarial losses on logits, and the R1 penalty."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core.training import distributed


def discriminator_loss(real: Tensor, fake: Tensor, kind: str) -> Tensor:
    """The discriminator's loss on logits of any shape.

    Args:
        real: Logits of real latents.
        fake: Logits of generated latents.
        kind: `hinge` (arXiv 1705.02894) or `non_saturating` (arXiv 1406.2661).
    """
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor, kind: str) -> Tensor:
    """The generator's loss on the logits of what it made; `kind` as for the discriminator."""
    if kind == "hinge":
        return -fake.mean()
    return F.softplus(-fake).mean()


def r1_penalty(logits: Tensor, real: Tensor) -> Tensor:
    """Mean squared norm of the discriminator's gradient at real data (arXiv 1801.04406), times one half.

    Args:
        logits: (n,), computed from `real`.
        real: (n, ...) with requires_grad.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(dim=1).mean()


class R1Weight(nn.Module):
    """The weight of the R1 penalty, which rises while the discriminator is too sure of real data.

    On small data a discriminator learns the training set by heart; the mean sign of its logits on real data
    tells (the measure of arXiv 2006.06676, which adapts its augmentation by it).

    Args:
        gamma: The weight at the start.
        target: Mean sign of the logits of real data above which the weight rises; None for a constant weight.
    """

    RATE, RANGE = 1.02, 100.0
    gamma: Tensor

    def __init__(self, gamma: float, target: float | None) -> None:
        super().__init__()
        self._first, self._target = gamma, target
        self.register_buffer("gamma", torch.tensor(gamma))

    @torch.no_grad()
    def update(self, real_logits: Tensor) -> None:
        """Moves the weight by a step, within a hundredth and a hundred times what it started as."""
        if self._target is None:
            return
        up = float(distributed.global_mean(real_logits.sign().mean())) > self._target
        moved = self.gamma * (self.RATE if up else 1 / self.RATE)
        self.gamma.copy_(moved.clamp(self._first / self.RANGE, self._first * self.RANGE))
