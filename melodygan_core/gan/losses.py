"""Adversarial losses on logits, and the R1 penalty."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
