"""The random numbers of torch's CPU generator, by numpy: the same seed makes the same piece."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Fewer values than this come one by one, in double precision.
_BLOCK = 16
_BITS = 24


class TorchRandom:
    """A stand-in for `torch.Generator` on the CPU.

    The generator is a Mersenne Twister. `torch.randn` makes blocks of 16 normal values by the Box-Muller
    transform of uniform ones, as in ATen's `DistributionTemplates.h`. Values differ from torch's by rounding,
    some 1e-7.

    Args:
        seed: 0 and above; as in torch, its lower 32 bits count.
    """

    def __init__(self, seed: int) -> None:
        self._twister = np.random.RandomState(seed & 0xFFFFFFFF)
        # The second value of a pair that was made one by one.
        self._second: float | None = None

    def rand(self, count: int) -> NDArray[np.float32]:
        """Uniform values (count,) in [0, 1)."""
        return (self._integers(count) & np.uint32(2**_BITS - 1)).astype(np.float32) * np.float32(2**-_BITS)

    def randn(self, *shape: int) -> NDArray[np.float32]:
        """Standard normal values of a shape."""
        count = math.prod(shape)
        if count < _BLOCK:
            return np.array([self._normal() for _ in range(count)], np.float32).reshape(shape)
        uniform, values = self.rand(count), np.empty(count, np.float32)
        blocks = count // _BLOCK * _BLOCK
        values[:blocks] = _box_muller(uniform[:blocks])
        if count % _BLOCK:
            values[-_BLOCK:] = _box_muller(self.rand(_BLOCK))
        return values.reshape(shape)

    def _integers(self, count: int) -> NDArray[np.uint32]:
        return self._twister.randint(0, 2**32, count, dtype=np.uint32)

    def _double(self) -> float:
        high, low = (int(n) for n in self._integers(2))
        return (((high << 32) | low) & (2**53 - 1)) * 2.0**-53

    def _normal(self) -> float:
        if self._second is not None:
            value, self._second = self._second, None
            return value
        angle, radius = 2 * math.pi * self._double(), math.sqrt(-2 * math.log1p(-self._double()))
        self._second = radius * math.sin(angle)
        return radius * math.cos(angle)


def _box_muller(uniform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Uniform values (n,), n a multiple of 16 -> as many normal ones, from pairs that are 8 apart."""
    pairs = uniform.reshape(-1, 2, _BLOCK // 2)
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - pairs[:, 0]))
    angle = np.float32(2 * math.pi) * pairs[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
