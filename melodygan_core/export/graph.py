"""One network of a release, in the form in which it is exported."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

# Names of an input's axes; a name stands for a length that is chosen at each call.
Axes = tuple[int | str, ...]


@dataclass(frozen=True)
class Graph:
    """One network to export.

    Attributes:
        name: Of the file, without suffix.
        module: Tensors in, tensors out.
        inputs: Name of each input to its axes.
        outputs: Name of each output to its axes.
        unit: The dynamic length is a multiple of this.
        fewest: Smallest number of units.
        integers: Inputs that are indices of conditions, and how many there are.
        times: Inputs that lie in [0, 1).
    """

    name: str
    module: nn.Module
    inputs: dict[str, Axes]
    outputs: dict[str, Axes]
    unit: int = 1
    fewest: int = 2
    integers: dict[str, int] = field(default_factory=dict)
    times: tuple[str, ...] = ()

    def example(self, units: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs of a length of so many units."""
        rng, made = torch.Generator().manual_seed(seed), []
        for name, axes in self.inputs.items():
            shape = [size if isinstance(size, int) else units * self.unit for size in axes]
            if name in self.integers:
                made.append(torch.randint(0, self.integers[name], shape, generator=rng))
            elif name in self.times:
                made.append(torch.rand(shape, generator=rng))
            else:
                made.append(torch.randn(shape, generator=rng))
        return tuple(made)
