"""Where pieces of one size fit into stretches of different lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class CropSampler:
    """All places at which a piece lies within one stretch.

    Args:
        first: (n,) where each stretch begins.
        length: (n,) of each, in the same unit.
        size: Of a piece; shorter stretches have no place for it.
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
        """Random places, each as likely as any other, and the index of the stretch that each is in."""
        picked = rng.integers(0, self._ends[-1], count)
        which = np.searchsorted(self._ends, picked, side="right")
        within = picked - np.where(which > 0, self._ends[which - 1], 0)
        return self._first[which] + within, self.span[which]

    def evenly_spaced(self, at_most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places that do not overlap, evenly over all stretches, and the stretch of each."""
        ends = self._first + self._length - self.size + 1
        every = [np.arange(f, end, self.size) for f, end in zip(self._first, ends, strict=True)]
        places = np.concatenate(every)
        span = np.repeat(self.span, [len(e) for e in every])
        chosen = np.linspace(0, len(places) - 1, min(len(places), at_most)).round().astype(np.int64)
        return places[chosen], span[chosen]
