"""Intervals of a statistic over dependent rows, by resampling whole groups (tracks)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import require


def bootstrap_by_group(
    statistic: Callable[..., float],
    group_counts: Sequence[int],
    n: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Returns an interval of a statistic of some sets whose rows come in dependent groups.

    The classic bootstrap draws groups with replacement. Repeated rows are at distance 0 of each other, which a
    U-statistic or a neighbour distance takes for structure. Each resample is therefore a random half of the
    groups of each set, without replacement. The variance of a mean over such a half, around the mean over all,
    equals the variance of the mean over all (the delete-half jackknife: (1 - 1/2) / (G / 2) = 1 / G); with an
    odd number of groups, the larger and the smaller half are equally likely. For a degenerate statistic (KAD
    of two sets of one distribution) the interval is wider than necessary. Halves also shift a statistic that
    depends on the number of groups, so the quantiles are those of the deviations from their median, placed
    around the statistic of all groups.

    Args:
        statistic: Takes one array of group indices per set, in the order of `group_counts`.
        group_counts: Number of groups of each set.
        n: Number of resamples.
        seed: Seed of the resamples.
        level: Coverage of the interval, between 0 and 1.

    Returns:
        low, high.

    Raises:
        InputError: fewer than two groups in a set, or a level that is not between 0 and 1.
    """
    for i, count in enumerate(group_counts):
        require(count >= 2, f"the number of groups of set {i}", count, "at least 2, to resample by group")
    require(0 < level < 1, "level", level, "between 0 and 1")
    rng = np.random.default_rng(seed)
    values = np.array([statistic(*(_half(count, rng) for count in group_counts)) for _ in range(n)])
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(values - np.median(values), [tail, 100.0 - tail])
    centre = statistic(*(np.arange(count) for count in group_counts))
    return float(centre + low), float(centre + high)


def _half(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.sort(rng.permutation(count)[: (count + int(rng.integers(2))) // 2])
