"""Crops of features as a codec reads them: at random levels to train on, evenly spaced to measure with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from melodygan_core.config import FeatureConfig
from melodygan_core.dataset import SpanDataset
from melodygan_core.training import Batch

# Crops on the device at once.
BATCH = 64


def at_random_levels(
    features: Mapping[str, NDArray[np.float32]],
    gain_db: float,
    feature: FeatureConfig,
    rng: np.random.Generator,
) -> Batch:
    """Columns of features (n, frames, bands) as if each example were louder or softer.

    Args:
        features: Columns by name; the spectrum is changed in place, stereo does not depend on the level.
        gain_db: Standard deviation of the gain of an example.
        feature: How they were made.
        rng: Of the gains.
    """
    spectrum = features[feature.spectrum]
    gain = rng.normal(0, gain_db * math.log(10) / 20, (len(spectrum), 1, 1))
    spectrum += gain.astype(np.float32)
    np.maximum(spectrum, np.float32(math.log(feature.log_floor)), out=spectrum)
    return {name: torch.from_numpy(values) for name, values in features.items()}


class EvenCrops:
    """Crops that lie evenly over the spans of a split, in columns of features.

    Args:
        spans: Of the split; the crops have its `fewest_frames`.
        columns: Names of the columns.
        at_most: Crops.

    Attributes:
        columns: (n, frames, bands) by name, on the CPU.
    """

    def __init__(self, spans: SpanDataset, columns: Sequence[str], at_most: int) -> None:
        self.columns: Batch = {name: torch.from_numpy(spans.evenly_spaced(at_most, name)) for name in columns}

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def parts(self, device: torch.device) -> Iterator[Batch]:
        """The crops, BATCH at a time, on a device."""
        for part in zip(*(column.split(BATCH) for column in self.columns.values()), strict=True):
            yield {name: values.to(device) for name, values in zip(self.columns, part, strict=True)}
