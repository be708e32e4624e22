"""Random levels of training examples, in features."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from melodygan_core.config import FeatureConfig
from melodygan_core.training import Batch


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
