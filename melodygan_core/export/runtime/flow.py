"""Latents of the temporal flow: its solver and its windows, as in `prior.flow`, over exported networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import SamplingConfig, TemporalFlowConfig, require
from melodygan_core.export.runtime.sessions import Session
from melodygan_core.export.runtime.torch_random import TorchRandom

# float32; the operations of numpy are typed as of any precision.
Values = NDArray[Any]


@dataclass(frozen=True)
class Flow:
    """A flow with its networks.

    Attributes:
        config: Sizes and the number of steps.
        conditions: How many it was trained with; 0 for none.
        velocity: Network, (x, time, known, mask[, condition]) -> velocity; each (1, tokens, ...).
        guide: The same at an early step, for autoguidance.
        latents: Network, whitened latents (1, tokens, latent_dim) -> latents of the codec.
        lowest: (latent_dim,), limit of whitened latents.
        highest: (latent_dim,).
    """

    config: TemporalFlowConfig
    conditions: int
    velocity: Session
    guide: Session
    latents: Session
    lowest: Values
    highest: Values

    def sample(self, tokens: int, seed: int, condition: int | None, sampling: SamplingConfig) -> Values:
        """Latents (tokens, latent_dim) of a piece.

        Raises:
            InputError: guidance for a flow that was trained without conditions.
        """
        made: list[Values] = []
        for part in self._stream(seed, condition, sampling):
            made.append(part)
            if sum(map(len, made)) >= tokens:
                break
        return np.concatenate(made)[:tokens]

    def _stream(self, seed: int, condition: int | None, sampling: SamplingConfig) -> Iterator[Values]:
        """Yields a piece without end: a window, then half a window at a time."""
        allowed = "1: this model was trained without conditions"
        require(self.conditions > 0 or sampling.guidance == 1, "guidance", sampling.guidance, allowed)
        size, dim = self.config.window_tokens, len(self.lowest)
        half, index = size // 2, self.conditions if condition is None else condition
        nothing = np.zeros((1, size, 1), np.float32)
        made = self._solved(
            _noise(seed, 0, size, dim), np.zeros((1, size, dim), np.float32), nothing, index, sampling
        )
        yield self.latents(made)[0][0]
        number, mask = 1, nothing.copy()
        mask[:, :half] = 1
        while True:
            noise, drift = np.split(_noise(seed, number, 2 * size, dim), 2, axis=1)
            context = np.concatenate([made[:, -half:], np.zeros_like(made[:, :half])], axis=1)
            # A little noise on what was generated, against drift.
            known = context + mask * np.float32(0.5 * self.config.context_noise) * drift
            made = self._solved(noise, known, mask, index, sampling)
            yield self.latents(made)[0][0, half:]
            number += 1

    def _solved(
        self, noise: Values, known: Values, mask: Values, condition: int, sampling: SamplingConfig
    ) -> Values:
        """One window (1, tokens, latent_dim), whitened, by the midpoint rule; see `prior.flow.solver.solve`."""

        def of(network: Session, x: Values, time: float, index: int) -> Values:
            given = [x, np.array([time], np.float32), known, mask]
            return network(*given, *([np.array([index])] if self.conditions else []))[0]

        def velocity(x: Values, time: float) -> Values:
            if mask.any():
                x = np.where(mask > 0, np.float32(1 - time) * noise + np.float32(time) * known, x)
            guided = made = of(self.velocity, x, time, condition)
            if sampling.guidance != 1.0:
                none = of(self.velocity, x, time, self.conditions)
                guided = guided + np.float32(sampling.guidance - 1) * (made - none)
            if sampling.autoguidance != 1.0:
                early = of(self.guide, x, time, condition)
                guided = guided + np.float32(sampling.autoguidance - 1) * (made - early)
            reached = np.clip(x + np.float32(1 - time) * guided, self.lowest, self.highest)
            return (reached - x) / np.float32(1 - time)

        x, steps = noise, sampling.steps or self.config.steps
        size = 1 / steps
        for k in range(steps):
            time = k * size
            middle = x + np.float32(0.5 * size) * velocity(x, time)
            x = x + np.float32(size) * velocity(middle, time + 0.5 * size)
        return np.clip(x, self.lowest, self.highest)


def _noise(seed: int, number: int, tokens: int, dim: int) -> Values:
    """Noise (1, tokens, latent_dim) of a window."""
    state = np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1
    return TorchRandom(int(state)).randn(1, tokens, dim)
