"""Adversarial losses of GANs over latents, and the R1 penalty with its adaptive weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core.training import distributed


def discriminator_loss(real: Tensor, fake: Tensor, kind: str) -> Tensor:
    """Loss of the discriminator.

    Args:
        real: Logits of real latents, of any shape.
        fake: Logits of generated latents, of any shape.
        kind: `hinge` (arXiv 1705.02894) or `non_saturating` (arXiv 1406.2661).
    """
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor, kind: str) -> Tensor:
    """Loss of the generator.

    Args:
        fake: Logits of generated latents, of any shape.
        kind: As for `discriminator_loss`.
    """
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
    """Weight of the R1 penalty, which rises while the discriminator is too sure of real data.

    On few data a discriminator memorises the training set. The mean sign of its logits on real data shows that
    (arXiv 2006.06676, which adapts its augmentation by it). Must be on the device of the discriminator.

    Args:
        gamma: Initial weight.
        target: Mean sign of the logits on real data above which the weight rises; None for a constant weight.
    """

    RATE, RANGE = 1.02, 100.0
    gamma: Tensor

    def __init__(self, gamma: float, target: float | None) -> None:
        super().__init__()
        self._initial, self._target = gamma, target
        self.register_buffer("gamma", torch.tensor(gamma))

    @torch.no_grad()
    def update(self, real_logits: Tensor) -> None:
        """Multiplies or divides the weight by RATE; it stays within a factor RANGE of its initial value.

        Args:
            real_logits: (n,), on real latents.
        """
        if self._target is None:
            return
        rises = distributed.global_mean(real_logits.sign().mean()) > self._target
        # Stays on the device: a comparison in Python would wait for the GPU in every step.
        moved = self.gamma * torch.where(rises, self.RATE, 1 / self.RATE)
        self.gamma.copy_(moved.clamp(self._initial / self.RANGE, self._initial * self.RANGE))
