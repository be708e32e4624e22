"""Kernel audio distance (KAD) of two sets of embeddings whose rows come in dependent groups, such as tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from melodygan_core.config import require
from melodygan_core.metrics.distances import blocks, checked_pair
from melodygan_core.metrics.embedding import Embeddings

Labels = Sequence[Any] | NDArray[Any]

# KAD leaves out pairs within one group, so that each set needs two groups to have any pair.
MIN_GROUPS = 2
# With fewer tracks, the interval of a KAD says nothing of other tracks: reports and the release gate give none.
MIN_GROUPS_TO_COMPARE = 5

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
    reference, generated = checked_pair(reference, generated)
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
    for block in blocks(len(rows), len(columns)):
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


def _group_index(groups: Labels, rows: int, name: str, fewest: int) -> NDArray[np.int64]:
    """Returns the group of each row as a number, counted in the order of the sorted labels."""
    require(len(groups) == rows, f"the number of labels of {name}", len(groups), f"{rows}, one per row")
    labels, group_index = np.unique(np.asarray(groups), return_inverse=True)
    require(len(labels) >= fewest, f"the number of groups of {name}", len(labels), f"at least {fewest}")
    return group_index
