"""From noise to latents along the learned velocity, with guidance and known latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from melodygan_core.prior.editing import Sampling
from melodygan_core.prior.flow.guidance import Move
from melodygan_core.prior.flow.network import VelocityNetwork
from melodygan_core.prior.flow.whitening import Whitening

# (x (n, tokens, dim), time) -> velocity of the same shape
Velocity = Callable[[Tensor, float], Tensor]


class FlowModel(nn.Module):
    """What a flow is once it is trained.

    Args:
        network: The average of the trained weights.
        guide: The same at an early step, for autoguidance.
        whitening: Latents as the networks see them.
    """

    def __init__(self, network: VelocityNetwork, guide: VelocityNetwork, whitening: Whitening) -> None:
        super().__init__()
        self.network, self.guide, self.whitening = network, guide, whitening


@dataclass(frozen=True)
class Problem:
    """What is solved, whitened.

    Attributes:
        noise: (n, tokens, latent_dim), standard normal.
        known: (n, tokens, latent_dim) latents, of which only those in the mask are looked at.
        mask: (n, tokens, 1), 1 where latents are known.
        condition: (n,) indices, or None.
        plan: (n, tokens, plan.CHANNELS), zero where nothing is given; None for a network without plans.
        start: (n, tokens, latent_dim) latents to begin from; None for none.
        strength: Share of noise at the beginning; 1 where nothing is begun from.
        circular: Whether the sequence is a loop.
        move: Moves what each step predicts; None for no guidance by losses.
    """

    noise: Tensor
    known: Tensor
    mask: Tensor
    condition: Tensor | None = None
    plan: Tensor | None = None
    start: Tensor | None = None
    strength: float = 1.0
    circular: bool = False
    move: Move | None = None


def unknown(
    noise: Tensor, condition: Tensor | None = None, plan: Tensor | None = None, *, circular: bool = False
) -> Problem:
    """The problem of new latents of which nothing is known, from noise (n, tokens, latent_dim)."""
    nothing, mask = torch.zeros_like(noise), torch.zeros_like(noise[..., :1])
    return Problem(noise, nothing, mask, condition, plan, circular=circular)


@torch.no_grad()
def solve(model: FlowModel, problem: Problem, sampling: Sampling) -> Tensor:
    """Solves by the midpoint rule in equal steps.

    Args:
        model: On the device of the problem.
        problem: See Problem.
        sampling: Its steps are those from pure noise; a start that is less noisy takes fewer.

    Returns:
        (n, tokens, latent_dim), whitened. Tokens in the mask are not to be used.
    """
    velocity = _velocity(model, problem, sampling)
    begin = 1.0 - problem.strength
    x = problem.noise if problem.start is None else begin * problem.start + (1 - begin) * problem.noise
    steps = max(1, round(sampling.steps * problem.strength))
    size = problem.strength / steps
    for k in range(steps):
        time = begin + k * size
        middle = x + 0.5 * size * velocity(x, time)
        x = x + size * velocity(middle, time + 0.5 * size)
    # The last step goes on from its middle: it may leave the range that its prediction was in.
    return model.whitening.clamp(x)


def _velocity(model: FlowModel, problem: Problem, sampling: Sampling) -> Velocity:
    """The guided velocity; its predicted latents are clamped to the range of the training latents."""
    mask, known = problem.mask, problem.known
    some_known = bool((mask > 0).any())

    def of(network: VelocityNetwork, x: Tensor, time: Tensor, *, free: bool = False) -> Tensor:
        condition, plan = problem.condition, problem.plan
        if free:
            condition = None if condition is None else torch.full_like(condition, network.conditions)
            plan = None if plan is None else torch.zeros_like(plan)
        return network(x, time, known, mask, condition, plan, circular=problem.circular)

    def velocity(x: Tensor, time: float) -> Tensor:
        if some_known:
            # As in training, in which known tokens are as noisy as the others.
            x = torch.where(mask > 0, (1 - time) * problem.noise + time * known, x)
        at = torch.full((len(x),), time, device=x.device)
        made = of(model.network, x, at)
        guided = made
        if sampling.guidance != 1.0:
            free = of(model.network, x, at, free=True)
            guided = guided + (sampling.guidance - 1) * (made - free)
        if sampling.autoguidance != 1.0:
            early = of(model.guide, x, at)
            guided = guided + (sampling.autoguidance - 1) * (made - early)
        # Guidance throws unbounded latents off (arXiv 2402.01412).
        reached = model.whitening.clamp(x + (1 - time) * guided)
        if problem.move is not None:
            reached = model.whitening.clamp(problem.move(reached, time))
        return (reached - x) / (1 - time)

    return velocity
