"""The flow as a prior: pieces of any length, window by window, and what it does with given latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from melodygan_core.config import TemporalFlowConfig, require
from melodygan_core.config.registry import require_capability
from melodygan_core.prior.base import LatentSpace
from melodygan_core.prior.editing import DEFAULT_SAMPLING, EditingPrior, Guide, Parts, Sampling
from melodygan_core.prior.flow.guidance import Move, move_of
from melodygan_core.prior.flow.network import STRIDE, VelocityNetwork
from melodygan_core.prior.flow.solver import FlowModel, Problem, solve, unknown
from melodygan_core.prior.flow.whitening import Whitening
from melodygan_core.prior.flow.windows import mirrored, padded, plan_window, windows


class Wanted(NamedTuple):
    """What a piece is made by.

    Attributes:
        condition: (1,) index, or None for a prior without conditions.
        plan: (tokens, plan.CHANNELS) on the prior's device, of any length; None for a prior without plans.
        sampling: Checked.
    """

    condition: Tensor | None
    plan: Tensor | None
    sampling: Sampling


class TemporalFlow(EditingPrior):
    """A rectified flow over sequences of latents (arXiv 2209.03003); a longer piece begins with a shorter one.

    Every window has noise of its own, from the seed and the number of the window.

    Args:
        config: Sizes.
        space: Statistics and conditions of the latents.
    """

    config: TemporalFlowConfig

    def __init__(self, config: TemporalFlowConfig, space: LatentSpace) -> None:
        super().__init__(config, space)
        dim, count = space.latent_dim, len(space.conditions)
        network, guide = (self.network(config, dim, count) for _ in range(2))
        self.model = FlowModel(network, guide, Whitening(dim))

    @classmethod
    def network(cls, config: TemporalFlowConfig, latent_dim: int, conditions: int) -> VelocityNetwork:
        """A network of new weights."""
        return VelocityNetwork(config, latent_dim, conditions)

    @property
    def border_tokens(self) -> int:
        """Tokens that a window adds to a piece."""
        return self.config.window_tokens // 2

    @property
    def loop_tokens(self) -> int:
        """Tokens that become one position at the network's lower rate."""
        return STRIDE

    @property
    def context_tokens(self) -> int:
        """Half a window."""
        return self.config.window_tokens // 2

    @torch.no_grad()
    def sample(
        self,
        tokens: int,
        seed: int,
        condition: int | None = None,
        truncation: float = 0.0,
        sampling: Sampling = DEFAULT_SAMPLING,
        plan: Tensor | None = None,
    ) -> Tensor:
        """Samples latents (tokens, latent_dim); see Prior.sample.

        The truncation changes nothing: not the noise is limited but the latents that are predicted.
        """
        made: list[Tensor] = []
        for part in self.stream(seed, condition, sampling, plan):
            made.append(part)
            if sum(map(len, made)) >= tokens:
                break
        return torch.cat(made)[:tokens]

    @torch.no_grad()
    def stream(
        self,
        seed: int,
        condition: int | None = None,
        sampling: Sampling = DEFAULT_SAMPLING,
        plan: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yields a piece without end: a window, then half a window at a time; see EditingPrior.stream."""
        wanted, size = self._wanted(condition, sampling, plan), self.config.window_tokens
        problem = unknown(self._noise(seed, 0), wanted.condition, plan_window(wanted.plan, 0, size))
        made = solve(self.model, problem, wanted.sampling)[0]
        yield self.model.whitening.inverse(made)
        number, half = 1, size // 2
        while True:
            known = torch.zeros(size, dtype=torch.bool, device=self.device)
            known[:half] = True
            context = torch.cat([made[-half:], torch.zeros_like(made[:half])])
            made = self._solved(context, known, known, seed, number, number * half, wanted)
            yield self.model.whitening.inverse(made[half:])
            number += 1

    @torch.no_grad()
    def fill(
        self,
        latents: Tensor,
        known: Tensor,
        seed: int,
        condition: int | None = None,
        sampling: Sampling = DEFAULT_SAMPLING,
        parts: Parts | None = None,
        plan: Tensor | None = None,
    ) -> Tensor:
        """Makes the unknown latents of a piece; see EditingPrior.fill."""
        wanted, size = self._wanted(condition, sampling, plan), self.config.window_tokens
        order = windows(known.cpu(), size)
        # Unknown tokens beyond the end make the last window whole.
        beyond = max([0, *(w.start + size - len(latents) for w in order)])
        whitened = padded(self.model.whitening(torch.where(known[:, None], latents, 0.0)), beyond)
        given, there = padded(known, beyond), padded(known, beyond)
        if parts is not None:
            parts(0, len(order))
        for number, window in enumerate(order):
            part = slice(window.start, window.start + size)
            made = self._solved(
                whitened[part], there[part], there[part] & ~given[part], seed, number, window.start, wanted
            )
            fresh = slice(window.start, window.stop)
            new = ~there[fresh]
            whitened[fresh] = torch.where(new[:, None], made[: window.stop - window.start], whitened[fresh])
            there[fresh] = True
            if parts is not None:
                parts(number + 1, len(order))
        made = self.model.whitening.inverse(whitened[: len(latents)])
        return torch.where(known[:, None], latents, made)

    @torch.no_grad()
    def loop(
        self,
        tokens: int,
        seed: int,
        condition: int | None = None,
        sampling: Sampling = DEFAULT_SAMPLING,
        plan: Tensor | None = None,
    ) -> Tensor:
        """Makes latents whose end goes over into their beginning; see EditingPrior.loop."""
        require(tokens > 0 and tokens % STRIDE == 0, "tokens", tokens, f"a multiple of {STRIDE}")
        return self.loop_of_noise(self._noise(seed, 0, tokens), condition, sampling, plan)

    @torch.no_grad()
    def loop_of_noise(
        self,
        noise: Tensor,
        condition: int | None = None,
        sampling: Sampling = DEFAULT_SAMPLING,
        plan: Tensor | None = None,
    ) -> Tensor:
        """Makes the loop (tokens, latent_dim) of noise (1, tokens, latent_dim).

        The noise (and the plan) rotated by a multiple of `loop_tokens` makes the same loop, rotated.
        """
        wanted = self._wanted(condition, sampling, plan)
        followed = plan_window(wanted.plan, 0, noise.shape[1])
        problem = unknown(noise, wanted.condition, followed, circular=True)
        return self.model.whitening.inverse(solve(self.model, problem, wanted.sampling)[0])

    @torch.no_grad()
    def vary(
        self,
        latents: Tensor,
        strength: float,
        seed: int,
        condition: int | None = None,
        sampling: Sampling = DEFAULT_SAMPLING,
        parts: Parts | None = None,
        plan: Tensor | None = None,
        guides: Sequence[Guide] = (),
    ) -> Tensor:
        """Makes latents anew from a mixture of given ones and noise; see EditingPrior.vary."""
        require(0 <= strength <= 1, "strength", strength, "0 to 1")
        if strength == 0:
            return latents
        wanted, size = self._wanted(condition, sampling, plan), self.config.window_tokens
        order = windows(torch.zeros(len(latents), dtype=torch.bool), size)
        beyond = order[-1].start + size - len(latents)
        position = mirrored(len(latents), beyond).to(self.device)
        original = self.model.whitening(latents)[position]
        made = original.clone()
        if parts is not None:
            parts(0, len(order))
        for number, window in enumerate(order):
            part = slice(window.start, window.start + size)
            known = torch.zeros(size, dtype=torch.bool, device=self.device)
            known[: size // 2] = number > 0
            context = torch.where(known[:, None], made[part], 0.0)
            move = move_of(guides, position[part], ~known, self.model.whitening)
            begin = (original[part], strength)
            solved = self._solved(context, known, known, seed, number, window.start, wanted, begin, move)
            made[part] = torch.where(known[:, None], made[part], solved)
            if parts is not None:
                parts(number + 1, len(order))
        return self.model.whitening.inverse(made[: len(latents)])

    def _solved(
        self,
        context: Tensor,
        known: Tensor,
        generated: Tensor,
        seed: int,
        number: int,
        first: int,
        wanted: Wanted,
        start: tuple[Tensor, float] | None = None,
        move: Move | None = None,
    ) -> Tensor:
        """One window, whitened.

        Args:
            context: (window_tokens, latent_dim).
            known: (window_tokens,) where the context holds something.
            generated: (window_tokens,) which of it was generated: it gets a little noise, against drift.
            seed: Of the piece.
            number: Of the window.
            first: Its first token in the piece.
            wanted: Condition, plan and settings.
            start: Latents to begin from and the share of noise, or None.
            move: See Problem.

        Returns:
            (window_tokens, latent_dim)
        """
        noise, drift = self._noise(seed, number, 2 * self.config.window_tokens).chunk(2, dim=1)
        shaken = context + generated[:, None] * (0.5 * self.config.context_noise) * drift[0]
        plan = plan_window(wanted.plan, first, len(context))
        problem = Problem(noise, shaken[None], known[None, :, None].to(noise.dtype), wanted.condition, plan)
        if start is not None:
            problem = replace(problem, start=start[0][None], strength=start[1], move=move)
        return solve(self.model, problem, wanted.sampling)[0]

    def _noise(self, seed: int, number: int, tokens: int = 0) -> Tensor:
        """Noise (1, tokens, latent_dim) of a window; drawn on the CPU, so that no device changes it."""
        state = np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1
        rng = torch.Generator().manual_seed(int(state))
        shape = (1, tokens or self.config.window_tokens, self.latent_dim)
        return torch.randn(shape, generator=rng).to(self.device)

    def _wanted(self, condition: int | None, sampling: Sampling, plan: Tensor | None) -> Wanted:
        """What a piece is made by, with the prior's own number of steps where none is asked for.

        Raises:
            InputError: a plan for a prior without plans, or guidance towards nothing.
        """
        followed = self._plan(plan)
        allowed = "1: this model was trained without conditions"
        guided = bool(self.conditions) or followed is not None
        require(guided or sampling.guidance == 1, "guidance", sampling.guidance, allowed)
        index = None
        if self.conditions:
            number = len(self.conditions) if condition is None else condition
            index = torch.full((1,), number, device=self.device)
        return Wanted(index, followed, replace(sampling, steps=sampling.steps or self.config.steps))

    def _plan(self, plan: Tensor | None) -> Tensor | None:
        """The plan as the network takes it."""
        if plan is not None:
            require_capability(self.capabilities, "plan")
        return None
