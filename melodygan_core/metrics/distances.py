"""FAD, density and coverage of two sets of embeddings; KAD is in `kernel_distance`.

Every distance takes `embeddings: (n, dim)` and computes in float64. None reads a file or chooses a device.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

from melodygan_core.config import require
from melodygan_core.metrics.embedding import Embeddings

# Distances per block: 64 MB.
_BLOCK = 8_000_000


def mean_distance(embeddings: NDArray[np.floating]) -> float:
    """Returns the mean pairwise Euclidean distance of (n, dim): how diverse a set is."""
    return float(pdist(embeddings).mean())


def fad(reference: Embeddings, generated: Embeddings) -> float:
    """Returns the Frechet audio distance |mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) (arXiv 1812.08466).

    With X'X = A and Y'Y = B, the last trace is the sum of the singular values of X Y'. This needs no square
    root of a near-singular product and stays exact with fewer rows than dimensions.

    Args:
        reference: (n, dim), n at least 2.
        generated: (m, dim), m at least 2.

    Raises:
        InputError: too few rows, different widths, or values that are not finite.
    """
    reference, generated = checked_pair(reference, generated)
    factors = [_covariance_factor(rows) for rows in (reference, generated)]
    cross = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    shift = np.square(reference.mean(axis=0) - generated.mean(axis=0)).sum()
    return float(shift + sum(np.square(factor).sum() for factor in factors) - 2.0 * cross)


def _covariance_factor(rows: Embeddings) -> Embeddings:
    """Returns R (at most dim, dim) with R'R the covariance."""
    centred = (rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"))


def fewest_for_fad(dim: int) -> int:
    """Returns the generated rows that `fad_infinity` needs for embeddings of this width."""
    return 2 * max(50, dim)


def fad_infinity(reference: Embeddings, generated: Embeddings, steps: int = 15, seed: int = 0) -> float:
    """Returns FAD extrapolated to infinitely many generated rows (arXiv 2311.01616).

    The bias of FAD falls about as 1/n. FAD is computed on random subsets of the generated rows, from the
    larger of 50 and dim up to all of them, and regressed on 1/n. The result is the intercept.

    Dependent rows: a subset of dependent rows has fewer effective rows than n, by about the same factor at
    every size, so that the regression still removes their bias. It does not remove the bias of the reference,
    which has as few effective rows as it has tracks. Compare values only against one reference.

    Args:
        reference: (n, dim).
        generated: (m, dim), m at least `fewest_for_fad(dim)`.
        steps: Number of subset sizes, evenly spaced.
        seed: Seed of the subsets.

    Raises:
        InputError: too few generated rows.
    """
    reference, generated = checked_pair(reference, generated)
    fewest = fewest_for_fad(generated.shape[1])
    smallest = fewest // 2
    require(len(generated) >= fewest, "n of generated", len(generated), f"at least {fewest} rows")
    rng = np.random.default_rng(seed)
    sizes = np.linspace(smallest, len(generated), steps).astype(int)
    values = [fad(reference, generated[rng.permutation(len(generated))[:size]]) for size in sizes]
    return float(np.polyfit(1.0 / sizes, values, 1)[1])


def density_coverage(reference: Embeddings, generated: Embeddings, k: int) -> tuple[float, float]:
    """Returns density and coverage (arXiv 2002.09797) over balls from each reference row to its k-th neighbour.

    Dependent rows: the nearest neighbours of a window are mostly windows of its own track, so that balls are
    small and real music of other tracks reaches far less than 1. Both figures also grow with the number of
    tracks of the generated set. They have meaning only beside the figures of real music against the same
    reference. Taking neighbours from other tracks alone does not repair this: in a simulation of 30 tracks
    it gave a collapsed set a coverage of 0.95 and a set of the reference's own distribution 0.74.

    Args:
        reference: (n, dim), more than k rows.
        generated: (m, dim).
        k: Number of neighbours, not counting the row itself.

    Returns:
        density: Mean number of balls that hold a generated row, over k; about 1 for two sets of independent
            rows of one distribution, and not limited to 1.
        coverage: Share of the balls that hold a generated row, in [0, 1].

    Raises:
        InputError: k not below the reference's rows, different widths, or values that are not finite.
    """
    reference, generated = checked_pair(reference, generated)
    require(1 <= k < len(reference), "k", k, f"1 to {len(reference) - 1}, one less than the reference's rows")
    inside, covered = np.zeros(len(generated)), 0
    for block in blocks(len(reference), max(len(reference), len(generated))):
        # Column 0 of the sorted distances is the row itself.
        radii = np.partition(cdist(reference[block], reference), k, axis=1)[:, k]
        held = cdist(reference[block], generated) < radii[:, None]
        inside += held.sum(axis=0)
        covered += int(held.any(axis=1).sum())
    return float(inside.mean() / k), covered / len(reference)


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yields blocks of rows whose distances to all columns fit 64 MB."""
    step = max(1, _BLOCK // columns)
    return (slice(i, i + step) for i in range(0, rows, step))


def checked_pair(first: Embeddings, second: Embeddings) -> tuple[Embeddings, Embeddings]:
    """Returns both sets in float64.

    Raises:
        InputError: fewer than two rows, different widths, or values that are not finite.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    for rows in (first, second):
        require(rows.ndim == 2 and len(rows) >= 2, "embeddings shape", rows.shape, "(n, dim), n at least 2")
        require(bool(np.isfinite(rows).all()), "embeddings", "not finite", "finite values")
    require(first.shape[1] == second.shape[1], "dim", (first.shape[1], second.shape[1]), "equal in both sets")
    return first, second
