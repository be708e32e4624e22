"""Features -> dataset: shards, splits, statistics, health, and reading for training."""

from melodygan_core.dataset.assemble import assemble
from melodygan_core.dataset.health import Description, Health, describe
from melodygan_core.dataset.reading import Batches, Dataset, Rows
from melodygan_core.dataset.spans import CropSampler, Span, SpanDataset
from melodygan_core.dataset.vectors import Statistics, to_vectors

__all__ = [
    "Batches",
    "CropSampler",
    "Dataset",
    "Description",
    "Health",
    "Rows",
    "Span",
    "SpanDataset",
    "Statistics",
    "assemble",
    "describe",
    "to_vectors",
]
