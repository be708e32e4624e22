"""Features -> dataset: packing, splits, statistics, and reading it for training."""

from melodygan_core.dataset.assemble import assemble, describe
from melodygan_core.dataset.reading import Dataset, Rows, Statistics, batches, to_vectors

__all__ = ["Dataset", "Rows", "Statistics", "assemble", "batches", "describe", "to_vectors"]
