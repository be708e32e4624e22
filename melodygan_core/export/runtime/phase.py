"""Phases of sinusoids that are tracked from frame to frame; see `vocoder.phase.single_pass_phase`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EPSILON = np.float32(1e-5)
_GOLDEN = (math.sqrt(5) - 1) / 2


def single_pass_phase(
    magnitude: NDArray[np.float32], hop_length: int, before: NDArray[np.floating] | None = None
) -> NDArray[np.float32]:
    """Phases by single-pass spectrogram inversion (SPSI: Beauregard, Harish and Wyse 2015).

    Args:
        magnitude: (frames, bins).
        hop_length: Of the STFT.
        before: (bins,) phases of the frame before the first, to continue from.

    Returns:
        Radians in [0, 2 pi), of the same shape.
    """
    frames, bins = magnitude.shape
    level = np.log(np.maximum(magnitude, _EPSILON))
    advance, index = np.float32(2 * math.pi * hop_length / (2 * (bins - 1))), np.arange(bins)
    # In float64, because float32 loses the phase over an hour's frames.
    phase = 2 * math.pi * _GOLDEN * index if before is None else before.astype(np.float64)
    made = np.empty_like(magnitude)
    for t in range(frames):
        source, offset = _sources(level[t], index)
        half_turn = np.where((index - source) % 2 == 1, np.float32(np.pi), np.float32(0))
        phase = phase[source] + (advance * (source.astype(np.float32) + offset) + half_turn)
        made[t] = phase % (2 * np.pi)
    return made


def _sources(level: NDArray[np.float32], index: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The nearest peak of each bin of a frame, and the peak's offset from its bin; see `vocoder.phase`."""
    lower, here, upper = level[:-2], level[1:-1], level[2:]
    peaks = np.flatnonzero((here > lower) & (here >= upper)) + 1
    if not len(peaks):
        return index, np.zeros(len(index), np.float32)
    lower, here, upper = level[peaks - 1], level[peaks], level[peaks + 1]
    curvature = np.minimum(lower - np.float32(2) * here + upper, -_EPSILON)
    half = np.float32(0.5)
    offsets = np.clip(half * (lower - upper) / curvature, -half, half)
    # A bin in the middle of two peaks belongs to the lower one.
    nearest = np.searchsorted((peaks[:-1] + peaks[1:]) / 2, index)
    return peaks[nearest], offsets[nearest]
