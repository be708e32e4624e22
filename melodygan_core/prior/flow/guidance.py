"""Guidance by losses of what is made: each step moves the predicted latents to where the losses are lower."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from melodygan_core.prior.editing import Guide
from melodygan_core.prior.flow.whitening import Whitening

# (predicted latents (1, tokens, latent_dim), whitened; time) -> the same, moved
Move = Callable[[Tensor, float], Tensor]
# Times that each loss is computed per prediction: the second move starts where the first one ended.
_MOVES = 2


def uncertainty(time: float) -> float:
    """Standard deviation of whitened latents, of unit variance, given what the flow is at a time in [0, 1].

    It is that of x1 given (1 - time) x0 + time x1 for independent standard normal x0 and x1.
    """
    return (1 - time) / math.hypot(1 - time, time)


def move_of(guides: Sequence[Guide], index: Tensor, unknown: Tensor, whitening: Whitening) -> Move | None:
    """How the predictions of a window are moved; None where no guide has a weight.

    The gradient goes to the prediction, not through the network that made it (as in arXiv 2311.16424): that
    keeps the prediction near the latents that the flow knows, and costs no second pass through the network.
    A guide goes at most as far as where its loss, were it linear, would be 0 (Polyak's step), and at most
    its weight times the uncertainty of the prediction, RMS: less and less as the noise goes.

    Args:
        guides: What lowers a loss.
        index: (tokens,) which token of the piece each token of the window is.
        unknown: (tokens,) boolean: the others are not moved.
        whitening: Of the prior.
    """
    active = [guide for guide in guides if guide.weight > 0]
    if not active:
        return None
    free = unknown[:, None].to(torch.float32)
    values = max(1.0, float(free.sum()) * len(whitening.mean))

    def move(predicted: Tensor, time: float) -> Tensor:
        moved = predicted[0]
        for _ in range(_MOVES):
            steps = [_step(guide, moved) for guide in active]
            longest = uncertainty(time) * math.sqrt(values) / _MOVES
            lengths = [min(far, guide.weight * longest) for (_, far), guide in zip(steps, active, strict=True)]
            for (direction, _), length in zip(steps, lengths, strict=True):
                moved = moved - length * direction
        return moved[None]

    def _step(guide: Guide, whitened: Tensor) -> tuple[Tensor, float]:
        """The direction (tokens, latent_dim) of norm 1 that raises a loss, and how far it is to a loss of 0."""
        with torch.enable_grad():
            at = whitened.detach().requires_grad_()
            loss = guide.loss(whitening.inverse(at), index)
            (gradient,) = torch.autograd.grad(loss, at)
        gradient = gradient * free
        norm = float(gradient.norm())
        value = float(loss.detach())
        if norm == 0 or value <= 0:
            return torch.zeros_like(whitened), 0.0
        return gradient / norm, value / norm

    return move
