"""Features -> dataset: packing, splits, statistics, what is wrong with it, and reading it for training."""

from melodygan_core.dataset.assemble import assemble
from melodygan_core.dataset.health import Description, Health, describe
from melodygan_core.dataset.places import Places
from melodygan_core.dataset.reading import Batches, Dataset, Rows
from melodygan_core.dataset.stretches import Stretch, Stretches
from melodygan_core.dataset.vectors import Statistics, to_vectors

__all__ = [
    "Batches",
    "Dataset",
    "Description",
    "Health",
    "Places",
    "Rows",
    "Statistics",
    "Stretch",
    "Stretches",
    "assemble",
    "describe",
    "to_vectors",
]
