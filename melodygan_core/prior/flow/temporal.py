"""The flow as a prior: pieces of any length, window by window, and what it does with given latents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from melodygan_core.config import TemporalFlowConfig, require
from melodygan_core.prior.base import LatentSpace
from melodygan_core.prior.editing import DEFAULT_SAMPLING, EditingPrior, Parts, Sampling
from melodygan_core.prior.flow.network import STRIDE, VelocityNetwork
from melodygan_core.prior.flow.solver import FlowModel, Problem, solve, unknown
from melodygan_core.prior.flow.whitening import Whitening


@dataclass(frozen=True)
class Window:
    """A part of a piece that is solved at once.

    Attributes:
        start: Its first token.
        stop: Its unknown tokens before this one are kept; what is made of later ones is not.
    """

    start: int
    stop: int


def windows(known: Tensor, size: int) -> list[Window]:
    """The windows that make all unknown tokens of a piece, in order.

    A window goes on from up to half its size of what is known before. A gap that fits in half a window is made
    with what is known on both sides; a longer one is made from its beginning, and its last part fits again.

    Args:
        known: (tokens,) boolean, on the CPU.
        size: Tokens of a window.
    """
    done, total = known.tolist(), len(known)
    found = []
    while False in done:
        first = done.index(False)
        end = done.index(True, first) if True in done[first:] else total
        gap, half = end - first, size // 2
        if end < total and gap <= half:
            # In the middle, if there is that much on both sides.
            start, stop = max(0, min(first - (size - gap) // 2, total - size)), end
        elif end < total:
            start = max(0, first - half)
            stop = first + min(start + size - first, gap - min(half, gap // 2))
        else:
            start = max(0, first - half)
            stop = min(start + size, total)
        found.append(Window(start, stop))
        done[first:stop] = [True] * (stop - first)
    return found


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
        self.model = FlowModel(
            VelocityNetwork(config, dim, count), VelocityNetwork(config, dim, count), Whitening(dim)
        )

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
    ) -> Tensor:
        """Samples latents (tokens, latent_dim); see Prior.sample.

        The truncation changes nothing: not the noise is limited but the latents that are predicted.
        """
        made: list[Tensor] = []
        for part in self.stream(seed, condition, sampling):
            made.append(part)
            if sum(map(len, made)) >= tokens:
                break
        return torch.cat(made)[:tokens]

    @torch.no_grad()
    def stream(
        self, seed: int, condition: int | None = None, sampling: Sampling = DEFAULT_SAMPLING
    ) -> Iterator[Tensor]:
        """Yields a piece without end: a window, then half a window at a time; see EditingPrior.stream."""
        sampling, size = self._checked(sampling), self.config.window_tokens
        index = self._condition(condition)
        made = solve(self.model, unknown(self._noise(seed, 0), index), sampling)[0]
        yield self.model.whitening.inverse(made)
        number, half = 1, size // 2
        while True:
            known = torch.zeros(size, dtype=torch.bool, device=self.device)
            known[:half] = True
            context = torch.cat([made[-half:], torch.zeros_like(made[:half])])
            made = self._solved(context, known, known, seed, number, index, sampling)
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
    ) -> Tensor:
        """Makes the unknown latents of a piece; see EditingPrior.fill."""
        sampling, size, index = self._checked(sampling), self.config.window_tokens, self._condition(condition)
        plan = windows(known.cpu(), size)
        # Unknown tokens beyond the end make the last window whole.
        beyond = max([0, *(w.start + size - len(latents) for w in plan)])
        whitened = _padded(self.model.whitening(torch.where(known[:, None], latents, 0.0)), beyond)
        given, there = _padded(known, beyond), _padded(known, beyond)
        if parts is not None:
            parts(0, len(plan))
        for number, window in enumerate(plan):
            part = slice(window.start, window.start + size)
            made = self._solved(
                whitened[part], there[part], there[part] & ~given[part], seed, number, index, sampling
            )
            fresh = slice(window.start, window.stop)
            new = ~there[fresh]
            whitened[fresh] = torch.where(new[:, None], made[: window.stop - window.start], whitened[fresh])
            there[fresh] = True
            if parts is not None:
                parts(number + 1, len(plan))
        made = self.model.whitening.inverse(whitened[: len(latents)])
        return torch.where(known[:, None], latents, made)

    @torch.no_grad()
    def loop(
        self, tokens: int, seed: int, condition: int | None = None, sampling: Sampling = DEFAULT_SAMPLING
    ) -> Tensor:
        """Makes latents whose end goes over into their beginning; see EditingPrior.loop."""
        require(tokens > 0 and tokens % STRIDE == 0, "tokens", tokens, f"a multiple of {STRIDE}")
        return self.loop_of_noise(self._noise(seed, 0, tokens), condition, sampling)

    @torch.no_grad()
    def loop_of_noise(
        self, noise: Tensor, condition: int | None = None, sampling: Sampling = DEFAULT_SAMPLING
    ) -> Tensor:
        """Makes the loop (tokens, latent_dim) of noise (1, tokens, latent_dim).

        The noise rotated by a multiple of `loop_tokens` makes the same loop, rotated.
        """
        problem = unknown(noise, self._condition(condition), circular=True)
        return self.model.whitening.inverse(solve(self.model, problem, self._checked(sampling))[0])

    @torch.no_grad()
    def vary(
        self,
        latents: Tensor,
        strength: float,
        seed: int,
        condition: int | None = None,
        sampling: Sampling = DEFAULT_SAMPLING,
        parts: Parts | None = None,
    ) -> Tensor:
        """Makes latents anew from a mixture of given ones and noise; see EditingPrior.vary."""
        require(0 <= strength <= 1, "strength", strength, "0 to 1")
        if strength == 0:
            return latents
        sampling, size, index = self._checked(sampling), self.config.window_tokens, self._condition(condition)
        plan = windows(torch.zeros(len(latents), dtype=torch.bool), size)
        beyond = plan[-1].start + size - len(latents)
        original = self.model.whitening(latents)[_mirrored(len(latents), beyond).to(self.device)]
        made = original.clone()
        if parts is not None:
            parts(0, len(plan))
        for number, window in enumerate(plan):
            part = slice(window.start, window.start + size)
            known = torch.zeros(size, dtype=torch.bool, device=self.device)
            known[: size // 2] = number > 0
            context = torch.where(known[:, None], made[part], 0.0)
            solved = self._solved(
                context, known, known, seed, number, index, sampling, (original[part], strength)
            )
            made[part] = torch.where(known[:, None], made[part], solved)
            if parts is not None:
                parts(number + 1, len(plan))
        return self.model.whitening.inverse(made[: len(latents)])

    def _solved(
        self,
        context: Tensor,
        known: Tensor,
        generated: Tensor,
        seed: int,
        number: int,
        condition: Tensor | None,
        sampling: Sampling,
        start: tuple[Tensor, float] | None = None,
    ) -> Tensor:
        """One window, whitened.

        Args:
            context: (window_tokens, latent_dim).
            known: (window_tokens,) where the context holds something.
            generated: (window_tokens,) which of it was generated: it gets a little noise, against drift.
            seed: Of the piece.
            number: Of the window.
            condition: (1,) or None.
            sampling: Checked.
            start: Latents to begin from and the share of noise, or None.

        Returns:
            (window_tokens, latent_dim)
        """
        noise, drift = self._noise(seed, number, 2 * self.config.window_tokens).chunk(2, dim=1)
        shaken = context + generated[:, None] * (0.5 * self.config.context_noise) * drift[0]
        problem = Problem(noise, shaken[None], known[None, :, None].to(noise.dtype), condition)
        if start is not None:
            problem = replace(problem, start=start[0][None], strength=start[1])
        return solve(self.model, problem, sampling)[0]

    def _noise(self, seed: int, number: int, tokens: int = 0) -> Tensor:
        """Noise (1, tokens, latent_dim) of a window; drawn on the CPU, so that no device changes it."""
        state = np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1
        rng = torch.Generator().manual_seed(int(state))
        shape = (1, tokens or self.config.window_tokens, self.latent_dim)
        return torch.randn(shape, generator=rng).to(self.device)

    def _condition(self, condition: int | None) -> Tensor | None:
        if not self.conditions:
            return None
        index = len(self.conditions) if condition is None else condition
        return torch.full((1,), index, device=self.device)

    def _checked(self, sampling: Sampling) -> Sampling:
        """The settings with the prior's own number of steps where none is asked for."""
        allowed = "1: this model was trained without conditions"
        require(bool(self.conditions) or sampling.guidance == 1, "guidance", sampling.guidance, allowed)
        return replace(sampling, steps=sampling.steps or self.config.steps)


def _padded(values: Tensor, count: int) -> Tensor:
    """(tokens, ...) -> (tokens + count, ...), filled with zeros."""
    return torch.cat([values, values.new_zeros(count, *values.shape[1:])])


def _mirrored(tokens: int, count: int) -> Tensor:
    """Indices (tokens + count,) of tokens that go on backwards, then forwards, and so on."""
    turn = max(1, 2 * (tokens - 1))
    around = torch.arange(tokens + count) % turn
    return torch.minimum(around, turn - around).clamp_max(tokens - 1)
