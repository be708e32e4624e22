"""Mean and covariance of more vectors than fit in memory."""

from __future__ import annotations

import torch
from torch import Tensor


class Covariance:
    """Mean and covariance of vectors on any device, accumulated block by block in float64 on the CPU.

    Sums and products of a block are computed in the type of the block, on its device. Apple's GPUs have no
    float64, so that the totals are kept on the CPU.
    """

    def __init__(self) -> None:
        self.count = 0

    def add(self, block: Tensor) -> None:
        """Adds vectors (n, dim)."""
        if not self.count:
            # Squares of values far from zero lose digits: all vectors are measured from the first block's mean.
            self._origin = block.mean(dim=0)
            dim = block.shape[1]
            self._sum = torch.zeros(dim, dtype=torch.float64)
            self._products = torch.zeros(dim, dim, dtype=torch.float64)
        x = block - self._origin
        self._sum += x.cpu().sum(dim=0, dtype=torch.float64)
        self._products += (x.T @ x).cpu()
        self.count += len(x)

    @property
    def mean(self) -> Tensor:
        """(dim,) float64, on the CPU."""
        return self._origin.cpu() + self._sum / self.count

    @property
    def covariance(self) -> Tensor:
        """(dim, dim) float64, on the CPU."""
        mean = self._sum / self.count
        return self._products / self.count - torch.outer(mean, mean)
