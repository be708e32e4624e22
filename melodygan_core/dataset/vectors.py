"""A segment as one flat vector: bands standardised by the training frames, averaged in bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import FeatureConfig
from melodygan_core.errors import InputError

MIN_STD = 1e-3


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each band over the training frames of some stems.

    Attributes:
        log_mel_mean: (n_mels,) natural log of magnitude.
        log_mel_std: (n_mels,)
        mfcc_mean: (n_mfcc,)
        mfcc_std: (n_mfcc,)
    """

    log_mel_mean: NDArray[np.float32]
    log_mel_std: NDArray[np.float32]
    mfcc_mean: NDArray[np.float32]
    mfcc_std: NDArray[np.float32]


def moments(
    total: NDArray[np.float64], feature: FeatureConfig
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Mean and standard deviation of each band of `log_mel` and of `mfcc`.

    Args:
        total: Frames, at least 1; then sums and sums of squares of the mels, then of the MFCC.
        feature: How many there are of each.
    """
    found = {}
    mels, mfccs = np.split(total[1:], [2 * feature.n_mels])
    for name, part in (("log_mel", mels), ("mfcc", mfccs)):
        mean, square = part.reshape(2, -1) / total[0]
        found[name] = (mean, np.sqrt(np.maximum(square - mean**2, 0.0)))
    return found


def to_vectors(
    log_mel: NDArray[np.float32], mfcc: NDArray[np.float32], statistics: Statistics, time_bins: int
) -> NDArray[np.float32]:
    """A segment's binned, standardised log-mel and MFCC as one flat vector.

    Args:
        log_mel: (n, frames, n_mels)
        mfcc: (n, frames, n_mfcc)
        statistics: Of the training frames.
        time_bins: Frames are averaged in this many equal bins.

    Returns:
        (n, (n_mels + n_mfcc) * time_bins): all bands of bin 0, of bin 1, ... of the log-mel, then the MFCC's.

    Raises:
        InputError: time_bins does not divide the frames.
    """
    n, frames, _ = log_mel.shape
    if frames % time_bins:
        raise InputError(f"time_bins is {time_bins}; allowed: a divisor of segment_frames = {frames}")
    parts = [
        (log_mel - statistics.log_mel_mean) / statistics.log_mel_std,
        (mfcc - statistics.mfcc_mean) / statistics.mfcc_std,
    ]
    binned = [p.reshape(n, time_bins, frames // time_bins, -1).mean(axis=2).reshape(n, -1) for p in parts]
    return np.concatenate(binned, axis=1)
