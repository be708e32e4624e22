"""What flows that predict their end share: the network, the times of a training, and the solver."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from melodygan_core.networks.convnext import ConvNeXtBlock

TIME_FEATURES = 64
# Where a flow is compared with the truth in a validation.
VALIDATION_TIMES = (0.0, 0.25, 0.5, 0.75)


class FlowNetwork(nn.Module):
    """(values of each position, time) -> a change of each position; untrained, the change is zero.

    ConvNeXt blocks whose inputs are scaled and shifted by the time.

    Args:
        inputs: Values of a position that it sees.
        outputs: Values of a position that it makes.
        width: Channels.
        blocks: Number of blocks.
        kernel: Width of a block's depthwise convolution, in positions; odd.
    """

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int, kernel: int) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.time = nn.Sequential(
            nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, 2 * blocks * width)
        )
        self.blocks = nn.ModuleList(ConvNeXtBlock(width, kernel) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.change = nn.Linear(width, outputs)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def change_of(self, inputs: Tensor, time: Tensor) -> Tensor:
        """Computes the change.

        Args:
            inputs: (batch, positions, inputs).
            time: (batch,), in [0, 1).

        Returns:
            (batch, positions, outputs)
        """
        h = self.embed(inputs)
        modulation = self.time(_time_features(time)).unflatten(1, (len(self.blocks), 2, 1, -1))
        for k, block in enumerate(self.blocks):
            scale, shift = modulation[:, k].unbind(1)
            h = block(h * (1 + scale) + shift)
        return self.change(self.norm(h))


def random_times(count: int, rng: np.random.Generator) -> Tensor:
    """Times (count,) in (0, 1) for a training step: logit-normal (arXiv 2403.03206)."""
    return torch.from_numpy((1 / (1 + np.exp(-rng.normal(size=count)))).astype(np.float32))


def solve(
    predict: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    steps: int,
    project: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Follows a flow from time 0 to time 1 in equal Euler steps; the last one ends at its prediction.

    Args:
        predict: (x, time (batch,)) -> where the flow ends.
        x: (batch, ...) at time 0, real or complex.
        steps: At least 1.
        project: Applied between two steps, where not every x is possible.
    """
    for step in range(steps):
        time, rest = step / steps, (steps - step) / steps
        predicted = predict(x, torch.full((len(x),), time, device=x.device))
        x = x + (predicted - x) * (1 / steps / rest)
        if project is not None and step + 1 < steps:
            x = project(x)
    return x


def _time_features(time: Tensor) -> Tensor:
    """(batch,) in [0, 1] -> sines and cosines (batch, TIME_FEATURES) of frequencies from 1 to 1000."""
    half = TIME_FEATURES // 2
    frequency = torch.exp(math.log(1000.0) * torch.arange(half, device=time.device) / (half - 1))
    angle = time[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)
