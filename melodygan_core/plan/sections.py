"""Sections of a sound: borders where the self-similarity changes, and labels of sections that sound alike."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks
from scipy.signal.windows import gaussian

from melodygan_core.plan.grid import Array, Grid
from melodygan_core.plan.plan import SECTIONS
from melodygan_core.plan.spectrum import RATE

_BLOCK_S = 0.5
# Each side of the checkerboard kernel, and the shortest section, in blocks.
_KERNEL, _SHORTEST = 16, 12
# A border is this many standard deviations above the mean novelty.
_NOVEL = 0.5
# Sections with means of this cosine, less the mean of the track, are one label.
_ALIKE = 0.6
_N_MFCC, _MFCC_HOP = 13, 1024
# Of the timbre beside the harmony.
_TIMBRE_WEIGHT = 0.7
# Standard deviation of a cepstral coefficient, in dB, below which the timbre does not change.
_LEAST_STD = 1.0


def sections_of(wav: NDArray[np.float32], chroma: NDArray[np.float32], grid: Grid) -> NDArray[np.int8]:
    """Returns the label (tokens,) of the section of each token, numbered as they first occur.

    Borders are peaks of the novelty of Foote (2000) over harmony and timbre. Later sections beyond the sixth
    kind get the label that they are most like.

    Args:
        wav: (samples,) mono at 22,050 Hz.
        chroma: (tokens, n) pitch classes.
        grid: Of the plan.
    """
    tokens = len(chroma)
    blocks = int(tokens * grid.token_s / _BLOCK_S)
    if blocks < 2 * _SHORTEST or not chroma.any():
        return np.zeros(tokens, np.int8)
    features = _features(wav, chroma, grid, blocks)
    similarity = features @ features.T
    borders = [0, *_borders(similarity), blocks]
    labels = _labels(features, borders)
    # Of the block that each token's middle lies in.
    block = np.clip((grid.centres(tokens) / _BLOCK_S).astype(int), 0, blocks - 1)
    section = np.searchsorted(np.array(borders[1:]), block, side="right")
    return labels[np.minimum(section, len(labels) - 1)].astype(np.int8)


def _features(wav: NDArray[np.float32], chroma: NDArray[np.float32], grid: Grid, blocks: int) -> Array:
    """(blocks, n): harmony and timbre, less their means, each block of length 1 (0 where it is the mean)."""
    import librosa

    mfcc = librosa.feature.mfcc(y=wav, sr=RATE, n_mfcc=_N_MFCC, hop_length=_MFCC_HOP)[1:].T
    times = np.arange(len(mfcc)) * _MFCC_HOP / RATE
    timbre, harmony = _means(mfcc, times, blocks), _means(chroma, grid.centres(len(chroma)), blocks)
    timbre = (timbre - timbre.mean(axis=0)) / np.maximum(timbre.std(axis=0), _LEAST_STD)
    harmony = harmony - harmony.mean(axis=0)
    scale = np.sqrt(np.mean(np.sum(harmony**2, axis=1)))
    parts = [harmony / max(float(scale), 1e-6), _TIMBRE_WEIGHT * timbre / np.sqrt(timbre.shape[1])]
    features = np.concatenate(parts, axis=1)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(features, length, out=np.zeros_like(features), where=length > 1e-6)


def _means(values: NDArray[np.floating], times: Array, blocks: int) -> Array:
    """(n, width) at times -> (blocks, width), the mean over each block."""
    index = np.clip((times / _BLOCK_S).astype(int), 0, blocks - 1)
    sums = np.zeros((blocks, values.shape[1]))
    np.add.at(sums, index, values)
    return sums / np.maximum(np.bincount(index, minlength=blocks), 1)[:, None]


def _borders(similarity: Array) -> list[int]:
    """Returns the blocks at which a section begins, but for the first."""
    taper = gaussian(2 * _KERNEL, _KERNEL / 2)
    sign = np.repeat([-1.0, 1.0], _KERNEL)
    kernel = np.outer(taper * sign, taper * sign)
    padded = np.pad(similarity, _KERNEL, mode="edge")
    novelty = np.array(
        [(padded[k : k + 2 * _KERNEL, k : k + 2 * _KERNEL] * kernel).sum() for k in range(len(similarity))]
    )
    least = novelty.mean() + _NOVEL * novelty.std()
    peaks, _ = find_peaks(novelty, height=max(float(least), 1e-6), distance=_SHORTEST)
    return [int(k) for k in peaks if _SHORTEST <= k <= len(similarity) - _SHORTEST]


def _labels(features: Array, borders: list[int]) -> NDArray[np.int64]:
    """Returns the label of each section."""
    known: list[Array] = []
    labels = []
    for first, last in pairwise(borders):
        mean = features[first:last].mean(axis=0)
        mean = mean / max(float(np.linalg.norm(mean)), 1e-6)
        alike = [float(mean @ other) for other in known]
        if known and (max(alike) >= _ALIKE or len(known) == SECTIONS):
            labels.append(int(np.argmax(alike)))
        else:
            labels.append(len(known))
            known.append(mean)
    return np.array(labels)
