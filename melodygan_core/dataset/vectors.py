"""Segments as flat vectors: bands standardised by the training frames, averaged in time bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import FeatureConfig, require

MIN_STD = 1e-3


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each band over the training frames.

    Attributes:
        mean: Column of features to (bands,).
        std: Column of features to (bands,).
    """

    mean: Mapping[str, NDArray[np.float32]]
    std: Mapping[str, NDArray[np.float32]]


def moments(
    total: NDArray[np.float64], feature: FeatureConfig
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Returns the mean and standard deviation of each band of each column of features.

    Args:
        total: Number of frames, at least 1; then sums and sums of squares of one column after the other.
        feature: Gives the columns and their number of bands.
    """
    found = {}
    ends = np.cumsum([2 * width for width in feature.columns.values()])
    for name, part in zip(feature.columns, np.split(total[1:], ends[:-1]), strict=True):
        mean, square = part.reshape(2, -1) / total[0]
        found[name] = (mean, np.sqrt(np.maximum(square - mean**2, 0.0)))
    return found


def to_vectors(
    log_mel: NDArray[np.float32], mfcc: NDArray[np.float32], statistics: Statistics, time_bins: int
) -> NDArray[np.float32]:
    """Returns the binned, standardised log-mel and MFCC of each segment as one flat vector.

    Args:
        log_mel: (n, frames, n_mels)
        mfcc: (n, frames, n_mfcc)
        statistics: Mean and standard deviation of the training frames.
        time_bins: Number of equal bins in which frames are averaged.

    Returns:
        (n, (n_mels + n_mfcc) * time_bins): all bands of bin 0, bin 1, ... of the log-mel, then of the MFCC.

    Raises:
        InputError: time_bins does not divide the number of frames.
    """
    n, frames, _ = log_mel.shape
    require(frames % time_bins == 0, "time_bins", time_bins, f"a divisor of segment_frames = {frames}")
    parts = [
        (log_mel - statistics.mean["log_mel"]) / statistics.std["log_mel"],
        (mfcc - statistics.mean["mfcc"]) / statistics.std["mfcc"],
    ]
    binned = [p.reshape(n, time_bins, frames // time_bins, -1).mean(axis=2).reshape(n, -1) for p in parts]
    return np.concatenate(binned, axis=1)
