"""Features -> dataset: packing, splits, statistics, what is wrong with it, and reading it for training."""

from melodygan_core.dataset.assemble import assemble
from melodygan_core.dataset.health import Description, Health, describe
from melodygan_core.dataset.reading import Dataset, Rows, Statistics, batches, to_vectors

__all__ = [
    "Dataset",
    "Description",
    "Health",
    "Rows",
    "Statistics",
    "assemble",
    "batches",
    "describe",
    "to_vectors",
]
