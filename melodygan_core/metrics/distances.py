"""Distances between two sets of embeddings whose rows come in dependent groups, such as the windows of a track.

Every distance takes `embeddings: (n, dim)` and computes in float64. None reads a file or chooses a device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

from melodygan_core.config import require
from melodygan_core.metrics.embedding import Embeddings

Labels = Sequence[Any] | NDArray[Any]

# KAD leaves out pairs within one group, so that each set needs two groups to have any pair.
MIN_GROUPS = 2
# With fewer tracks, the interval of a KAD says nothing of other tracks: reports and the release gate give none.
MIN_GROUPS_TO_COMPARE = 5

# Distances per block: 64 MB.
_BLOCK = 8_000_000
# Rows behind a median distance, evenly spaced: 4 million distances.
_MEDIAN_ROWS = 2048


def fewest_groups(*labels: Labels) -> int:
    """Returns the number of groups of the set with the fewest."""
    return min(len(np.unique(np.asarray(groups))) for groups in labels)


def too_few_groups(*labels: Labels) -> str:
    """Returns why these sets cannot be compared in a report, or an empty string if they can."""
    fewest = fewest_groups(*labels)
    if fewest >= MIN_GROUPS_TO_COMPARE:
        return ""
    return f"too few tracks to compare ({fewest} of at least {MIN_GROUPS_TO_COMPARE})"


def median_distance(embeddings: Embeddings, groups: Labels) -> float:
    """Returns the median Euclidean distance of rows of different groups: the bandwidth of KAD.

    Of more than 2,048 rows it takes 2,048, evenly spaced.

    Args:
        embeddings: (n, dim).
        groups: (n,) label of each row.

    Raises:
        InputError: labels that do not match the rows, or fewer than two groups.
    """
    group_index = _group_index(groups, len(embeddings), "embeddings", MIN_GROUPS)
    rows = np.linspace(0, len(group_index) - 1, min(len(group_index), _MEDIAN_ROWS)).round().astype(int)
    apart = group_index[rows][:, None] != group_index[rows][None]
    return float(np.median(cdist(embeddings[rows], embeddings[rows])[apart]))


def mean_distance(embeddings: NDArray[np.floating]) -> float:
    """Returns the mean pairwise Euclidean distance of (n, dim): how diverse a set is."""
    return float(pdist(embeddings).mean())


@dataclass(frozen=True)
class _KernelSums:
    """Kernel values of all pairs of rows of two sets, summed by pair of groups.

    Attributes:
        total: (groups of the first set, groups of the second) sums of kernel values.
        pairs: The same shape, number of pairs; 0 where the two groups are one, whose rows are dependent.
    """

    total: NDArray[np.float64]
    pairs: NDArray[np.float64]

    def mean(self, first: NDArray[np.int64] | None, second: NDArray[np.int64] | None) -> float:
        """Mean kernel value over the pairs of some groups; of all groups for None."""
        rows = np.arange(self.total.shape[0]) if first is None else first
        columns = np.arange(self.total.shape[1]) if second is None else second
        chosen = np.ix_(rows, columns)
        pairs = self.pairs[chosen].sum()
        require(pairs > 0, "groups", (len(rows), len(columns)), f"at least {MIN_GROUPS} different ones per set")
        return float(self.total[chosen].sum() / pairs)


class KadSums(NamedTuple):
    """Everything that KAD needs of two sets: the KAD of any subset of their groups costs no new distances.

    Attributes:
        reference: Pairs within the reference.
        generated: Pairs within the generated set.
        cross: Pairs of one row of each.
    """

    reference: _KernelSums
    generated: _KernelSums
    cross: _KernelSums

    def kad(
        self, reference: NDArray[np.int64] | None = None, generated: NDArray[np.int64] | None = None
    ) -> float:
        """Returns the KAD of some groups of each set, by index into their sorted labels; of all for None.

        Raises:
            InputError: fewer than two groups of a set.
        """
        within = self.reference.mean(reference, reference) + self.generated.mean(generated, generated)
        return 1000.0 * (within - 2.0 * self.cross.mean(reference, generated))


def kad_sums(
    reference: Embeddings,
    generated: Embeddings,
    reference_groups: Labels,
    generated_groups: Labels,
    bandwidth: float | None = None,
    *,
    shared_groups: bool = False,
) -> KadSums:
    """Returns the kernel sums behind `kad`, which has the same arguments and errors."""
    reference, generated = _pair(reference, generated)
    _group_index(reference_groups, len(reference), "the reference", MIN_GROUPS)
    _group_index(generated_groups, len(generated), "the generated set", MIN_GROUPS)
    sigma = median_distance(reference, reference_groups) if bandwidth is None else bandwidth
    require(sigma > 0, "bandwidth", sigma, "above 0 (are the rows of the reference all equal?)")
    first, second = (reference, np.asarray(reference_groups)), (generated, np.asarray(generated_groups))
    return KadSums(
        _kernel_sums(first, first, sigma, leave_out_equal=True),
        _kernel_sums(second, second, sigma, leave_out_equal=True),
        _kernel_sums(first, second, sigma, leave_out_equal=shared_groups),
    )


def kad(
    reference: Embeddings,
    generated: Embeddings,
    reference_groups: Labels,
    generated_groups: Labels,
    bandwidth: float | None = None,
    *,
    shared_groups: bool = False,
) -> float:
    """Returns the kernel audio distance by group: 1000 x squared MMD with an RBF kernel (arXiv 2502.15602).

    The unbiased MMD has mean 0 for two sets of one distribution only if rows are independent. Windows of one
    track are nearer to each other than to other music, which lifts the mean over pairs within a set and with it
    the distance. Pairs of rows of one group are therefore left out of both within-set means: the estimate has
    mean 0 for two sets of one distribution as long as groups are independent. It may be negative and is not
    clipped. Memory is bounded by 64 MB of distances plus one value per pair of groups.

    Args:
        reference: (n, dim), of at least two groups.
        generated: (m, dim), of at least two groups.
        reference_groups: (n,) label of each row, such as its track. Rows that are independent by construction,
            such as one window per generated piece, take `np.arange(n)`.
        generated_groups: (m,) the same of the generated set.
        bandwidth: Sigma of exp(-d^2 / (2 sigma^2)). The default is the median distance of rows of different
            groups of the reference.
        shared_groups: Whether equal labels in both sets mean one group (a set and its reconstruction). Their
            pairs are then left out of the cross mean as well, and the KAD of a set to itself is 0.

    Raises:
        InputError: too few rows or groups, labels that do not match the rows, different widths, values that are
            not finite, or a bandwidth of 0.
    """
    return kad_sums(
        reference, generated, reference_groups, generated_groups, bandwidth, shared_groups=shared_groups
    ).kad()


def _kernel_sums(
    first: tuple[Embeddings, NDArray[Any]],
    second: tuple[Embeddings, NDArray[Any]],
    sigma: float,
    *,
    leave_out_equal: bool,
) -> _KernelSums:
    (rows, row_names, row_counts), (columns, column_names, column_counts) = (
        _sorted_by_group(*members) for members in (first, second)
    )
    starts = np.cumsum(column_counts) - column_counts
    of_row = np.repeat(np.arange(len(row_names)), row_counts)
    total = np.zeros((len(row_names), len(column_names)))
    for block in _blocks(len(rows), len(columns)):
        kernel = np.exp(cdist(rows[block], columns, "sqeuclidean") / (-2.0 * sigma**2))
        np.add.at(total, of_row[block], np.add.reduceat(kernel, starts, axis=1))
    pairs = np.outer(row_counts, column_counts).astype(np.float64)
    if leave_out_equal:
        equal = row_names[:, None] == column_names[None]
        total[equal], pairs[equal] = 0.0, 0.0
    return _KernelSums(total, pairs)


def _sorted_by_group(
    rows: Embeddings, groups: NDArray[Any]
) -> tuple[Embeddings, NDArray[Any], NDArray[np.int64]]:
    """Rows in the order of their groups, the sorted labels, and the rows per label."""
    names, group_index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return rows[np.argsort(group_index, kind="stable")], names, counts


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _BLOCK // columns)
    return (slice(i, i + step) for i in range(0, rows, step))


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
    reference, generated = _pair(reference, generated)
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
    reference, generated = _pair(reference, generated)
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
    reference, generated = _pair(reference, generated)
    require(1 <= k < len(reference), "k", k, f"1 to {len(reference) - 1}, one less than the reference's rows")
    inside, covered = np.zeros(len(generated)), 0
    for block in _blocks(len(reference), max(len(reference), len(generated))):
        # Column 0 of the sorted distances is the row itself.
        radii = np.partition(cdist(reference[block], reference), k, axis=1)[:, k]
        held = cdist(reference[block], generated) < radii[:, None]
        inside += held.sum(axis=0)
        covered += int(held.any(axis=1).sum())
    return float(inside.mean() / k), covered / len(reference)


def _group_index(groups: Labels, rows: int, name: str, fewest: int) -> NDArray[np.int64]:
    """Returns the group of each row as a number, counted in the order of the sorted labels."""
    require(len(groups) == rows, f"the number of labels of {name}", len(groups), f"{rows}, one per row")
    labels, group_index = np.unique(np.asarray(groups), return_inverse=True)
    require(len(labels) >= fewest, f"the number of groups of {name}", len(labels), f"at least {fewest}")
    return group_index


def _pair(first: Embeddings, second: Embeddings) -> tuple[Embeddings, Embeddings]:
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    for rows in (first, second):
        require(rows.ndim == 2 and len(rows) >= 2, "embeddings shape", rows.shape, "(n, dim), n at least 2")
        require(bool(np.isfinite(rows).all()), "embeddings", "not finite", "finite values")
    require(first.shape[1] == second.shape[1], "dim", (first.shape[1], second.shape[1]), "equal in both sets")
    return first, second
