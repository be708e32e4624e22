"""Embeddings of log-mel windows, distances between sets of them, and intervals by track."""

from melodygan_core.metrics.bootstrap import bootstrap_by_group
from melodygan_core.metrics.distances import density_coverage, fad, fad_infinity, fewest_for_fad, mean_distance
from melodygan_core.metrics.embedding import (
    BAND_GROUPS,
    CONTRAST_SCALE,
    EMBEDDING,
    MEAN_SCALE,
    MODULATION_HZ,
    MODULATION_SCALE,
    SPREAD_SCALE,
    Embeddings,
    embed,
)
from melodygan_core.metrics.embedding_tensor import embed_tensor
from melodygan_core.metrics.kernel_distance import (
    MIN_GROUPS,
    MIN_GROUPS_TO_COMPARE,
    KadSums,
    fewest_groups,
    kad,
    kad_sums,
    median_distance,
    too_few_groups,
)
from melodygan_core.metrics.nearest import Nearest, nearest_segments

__all__ = [
    "BAND_GROUPS",
    "CONTRAST_SCALE",
    "EMBEDDING",
    "MEAN_SCALE",
    "MIN_GROUPS",
    "MIN_GROUPS_TO_COMPARE",
    "MODULATION_HZ",
    "MODULATION_SCALE",
    "SPREAD_SCALE",
    "Embeddings",
    "KadSums",
    "Nearest",
    "bootstrap_by_group",
    "density_coverage",
    "embed",
    "embed_tensor",
    "fad",
    "fad_infinity",
    "fewest_for_fad",
    "fewest_groups",
    "kad",
    "kad_sums",
    "mean_distance",
    "median_distance",
    "nearest_segments",
    "too_few_groups",
]
