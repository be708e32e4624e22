"""Spectral peaks of a sound at the tokens of a plan, and the pitch classes of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import get_window

from melodygan_core.plan.grid import Array
from melodygan_core.plan.plan import SPLIT_HZ

RATE = 22_050
# 0.37 s for the bass, in which semitones are apart from 100 Hz on; 0.19 s above, where melodies move faster.
LOWER_SIZE, UPPER_SIZE = 8192, 4096
LOWEST_HZ, HIGHEST_HZ = 40.0, 5000.0
# Above, a peak is an overtone rather than a note.
_HARMONY_HZ = 2500.0
# Peaks this far below the loudest of their token are noise, and a token this far below the loudest is a pause.
_PEAK_RANGE_DB, _PAUSE_DB = 40.0, -50.0
# A window of this RMS is silent.
SILENT_RMS = 1e-3
# Compressed magnitudes: a loud bass does not hide the chord.
COMPRESSION = 0.7
_BLOCK = 256


class Peaks(NamedTuple):
    """Spectral peaks, each (n,): token, frequency in Hz, and magnitude, 1 for a sine at full scale."""

    token: NDArray[np.int64]
    frequency_hz: Array
    magnitude: Array

    def of(self, chosen: NDArray[np.bool_]) -> Peaks:
        """Returns the chosen peaks."""
        return Peaks(self.token[chosen], self.frequency_hz[chosen], self.magnitude[chosen])


def spectral_peaks(wav: NDArray[np.floating], centres_s: Array, size: int) -> Peaks:
    """Returns the peaks of Hann windows that are centred on tokens.

    Args:
        wav: (samples,) mono at 22,050 Hz.
        centres_s: (tokens,) in seconds.
        size: Samples of a window.
    """
    window = get_window("hann", size)
    starts = np.round(centres_s * RATE).astype(np.int64) - size // 2
    padded = np.pad(wav, (size, size + max(0, int(starts.max(initial=0)) + size - len(wav))))
    found = [Peaks(np.empty(0, np.int64), np.empty(0), np.empty(0))]
    for first in range(0, len(starts), _BLOCK):
        index = starts[first : first + _BLOCK, None] + size + np.arange(size)
        magnitude = np.abs(np.fft.rfft(padded[index] * window)) * (2 / window.sum())
        token, frequency, height = _peaks(magnitude, size)
        found.append(Peaks(token + first, frequency, height))
    token, frequency, height = (np.concatenate(values) for values in zip(*found, strict=True))
    return _audible(Peaks(token, frequency, height), len(starts))


def _peaks(magnitude: Array, size: int) -> tuple[NDArray[np.int64], Array, Array]:
    first, last = (round(hz * size / RATE) for hz in (LOWEST_HZ, HIGHEST_HZ))
    left, middle, right = (magnitude[:, first + k : last + k] for k in (-1, 0, 1))
    # A sine at -60 dB of full scale; what is weaker is never heard.
    token, peak = np.nonzero((middle > left) & (middle >= right) & (middle > SILENT_RMS))
    a, b, c = (np.log(np.maximum(m[token, peak], 1e-12)) for m in (left, middle, right))
    # The vertex of a parabola through the logarithms: a peak's frequency within a few cents.
    offset = 0.5 * (a - c) / np.minimum(a - 2 * b + c, -1e-9)
    return token, (first + peak + offset) * RATE / size, middle[token, peak]


def _audible(peaks: Peaks, tokens: int) -> Peaks:
    """Returns the peaks near the loudest of their token, of tokens that are no pause."""
    loudest = np.zeros(tokens)
    np.maximum.at(loudest, peaks.token, peaks.magnitude)
    heard = loudest > loudest.max(initial=0.0) * 10 ** (_PAUSE_DB / 20)
    near = peaks.magnitude > loudest[peaks.token] * 10 ** (-_PEAK_RANGE_DB / 20)
    return peaks.of(near & heard[peaks.token])


def chroma_of(lower: Peaks, upper: Peaks, tokens: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns the pitch classes above and below 250 Hz, each (tokens, 12) with the maximum 1, or 0 for none.

    Args:
        lower: Peaks of long windows, which resolve the bass.
        upper: Peaks of short windows.
        tokens: Number of tokens.
    """
    high = (upper.frequency_hz >= SPLIT_HZ) & (upper.frequency_hz < _HARMONY_HZ)
    low = lower.frequency_hz < SPLIT_HZ
    return pitch_classes(upper.of(high), tokens), pitch_classes(lower.of(low), tokens)


def pitch_classes(peaks: Peaks, tokens: int) -> NDArray[np.float32]:
    """Returns the pitch classes (tokens, 12) of peaks, C first; each peak is shared by the two nearest."""
    # A = 9.
    position = (12 * np.log2(peaks.frequency_hz / 440.0) + 9) % 12
    weight = peaks.magnitude**COMPRESSION
    nearest, share = np.floor(position).astype(int), position % 1
    chroma = np.zeros((tokens, 12))
    np.add.at(chroma, (peaks.token, nearest % 12), weight * (1 - share))
    np.add.at(chroma, (peaks.token, (nearest + 1) % 12), weight * share)
    return scaled_to_one(chroma)


def scaled_to_one(chroma: Array) -> NDArray[np.float32]:
    """Returns rows (n, 12) scaled so that their largest value is 1; rows of zeros stay."""
    largest = chroma.max(axis=1, keepdims=True)
    return np.divide(chroma, largest, out=np.zeros_like(chroma), where=largest > 0).astype(np.float32)
