"""Mean and covariance of more vectors than fit in memory."""

from __future__ import annotations

import torch
from torch import Tensor


class Covariance:
    """Mean and covariance of vectors, block by block."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, block: Tensor) -> None:
        """Takes vectors (n, dim) in."""
        if not self.count:
            # What is far from zero would lose its digits in squares: all is counted from here.
            self._origin = block.mean(dim=0)
            self._sum = torch.zeros_like(self._origin, dtype=torch.float64)
            self._products = torch.zeros(2 * self._sum.shape, dtype=torch.float64, device=block.device)
        x = block - self._origin
        self._sum += x.sum(dim=0, dtype=torch.float64)
        self._products += x.T @ x
        self.count += len(x)

    @property
    def mean(self) -> Tensor:
        """(dim,) float64."""
        return self._origin + self._sum / self.count

    @property
    def covariance(self) -> Tensor:
        """(dim, dim) float64."""
        mean = self._sum / self.count
        return self._products / self.count - torch.outer(mean, mean)
