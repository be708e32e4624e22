"""Positions of crops of one size in spans of different lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class CropSampler:
    """Samples positions of crops that lie within one span.

    Args:
        first: (n,) start of each span.
        length: (n,) length of each span, in the same unit.
        size: Length of a crop; shorter spans have no crops.
    """

    def __init__(
        self, first: Sequence[int] | NDArray[np.int64], length: Sequence[int] | NDArray[np.int64], size: int
    ) -> None:
        starts, lengths = np.asarray(first, np.int64), np.asarray(length, np.int64)
        self.span = np.flatnonzero(lengths >= size)
        self.size = size
        self._first, self._length = starts[self.span], lengths[self.span]
        self._ends = np.cumsum(self._length - size + 1)

    def __bool__(self) -> bool:
        return len(self.span) > 0

    def sample(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns `count` uniformly random positions, and the index of the span of each."""
        picked = rng.integers(0, self._ends[-1], count)
        which = np.searchsorted(self._ends, picked, side="right")
        within = picked - np.where(which > 0, self._ends[which - 1], 0)
        return self._first[which] + within, self.span[which]

    def evenly_spaced(self, at_most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns positions that do not overlap, evenly over all spans, and the span of each."""
        ends = self._first + self._length - self.size + 1
        every = [np.arange(f, end, self.size) for f, end in zip(self._first, ends, strict=True)]
        positions = np.concatenate(every)
        span = np.repeat(self.span, [len(e) for e in every])
        chosen = np.linspace(0, len(positions) - 1, min(len(positions), at_most)).round().astype(np.int64)
        return positions[chosen], span[chosen]
