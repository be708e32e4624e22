"""Stereo sound of mono sound and stereo parameters, as `audio.stereo` makes it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from melodygan_core.export.runtime.stft import hann_window, overlap_add
from melodygan_core.export.runtime.torch_random import TorchRandom

# The constants of `audio.stereo`, which imports torch; a test compares them.
SMOOTHED_FRAMES = 8
MAX_LEVEL_DIFFERENCE_DB = 30.0
MIN_CORRELATION = -0.6
DECORRELATION_S = 0.03

# float32; the operations of numpy are typed as of any precision.
Values = NDArray[Any]
Spectra = NDArray[Any]


@lru_cache(maxsize=16)
def stereo_filterbank(bins: int, sample_rate: int, bands: int) -> Values:
    """Triangular bands (bins, bands) at equal distances on the ERB scale; the weights of a bin sum to 1."""
    frequency = np.linspace(0, sample_rate / 2, bins)
    erb = 21.4 * np.log10(1 + 0.00437 * frequency)
    position = erb / erb[-1] * (bands - 1)
    return np.maximum(1 - np.abs(position[:, None] - np.arange(bands)), 0).astype(np.float32)


@lru_cache(maxsize=8)
def decorrelating_filter(sample_rate: int) -> Values:
    """Decaying noise with a flat spectrum (samples,): it changes phases, and no magnitude."""
    size = 1 << max(6, round(DECORRELATION_S * sample_rate - 1).bit_length())
    decay = np.exp(np.float32(-6.9) * np.arange(size, dtype=np.float32) / (DECORRELATION_S * sample_rate))
    spectrum = scipy.fft.rfft(TorchRandom(0).randn(size) * decay.astype(np.float32))
    return scipy.fft.irfft(spectrum / np.maximum(np.abs(spectrum), 1e-9), size).astype(np.float32)


def smoothed(values: Values) -> Values:
    """(frames, n) -> moving mean over SMOOTHED_FRAMES; fewer frames at the ends."""
    before = SMOOTHED_FRAMES // 2
    padded = np.pad(values, ((before, SMOOTHED_FRAMES - 1 - before), (0, 0)))
    total = np.zeros_like(values)
    for k in range(SMOOTHED_FRAMES):
        total += padded[k : k + len(values)]
    position = np.arange(len(values))
    counts = np.minimum(position, before) + np.minimum(len(values) - position, SMOOTHED_FRAMES - before)
    return total / counts[:, None].astype(np.float32)


def side_gains(parameters: Values) -> tuple[Values, Values]:
    """Gains (frames, bands) of mid and decorrelated mid signal; see `audio.stereo.side_gains`."""
    level, correlation = np.split(parameters, 2, axis=1)
    ratio = np.float32(10) ** (np.clip(level, -1, 1) * np.float32(MAX_LEVEL_DIFFERENCE_DB / 20))
    correlation = np.clip(correlation, MIN_CORRELATION, 1)
    scale = ratio**2 + 1 + 2 * correlation * ratio
    along = (ratio**2 - 1) / scale
    power = (ratio**2 + 1 - 2 * correlation * ratio) / scale
    return along, np.sqrt(np.maximum(power - along**2, 0))


def stereo_sound(wav: Values, parameters: Values, sample_rate: int, hop_length: int) -> Values:
    """Left and right (2, samples), whose mean is the given sound up to rounding.

    Args:
        wav: (samples,) mono.
        parameters: (frames, 2 * bands); frame t is centred on sample t * hop_length.
        sample_rate: In Hz.
        hop_length: Samples between two frames of the parameters.
    """
    side = _side(wav, smoothed(parameters), sample_rate, hop_length)
    return np.stack([wav + side, wav - side])


def _side(wav: Values, parameters: Values, sample_rate: int, hop_length: int) -> Values:
    n_fft, samples = 4 * hop_length, len(wav)
    # Two frames more at both ends, so that four windows overlap at every sample.
    frames = 5 + -(-samples // hop_length)
    length = n_fft + (frames - 1) * hop_length
    window = hann_window(n_fft)
    kernel = decorrelating_filter(sample_rate)
    size = 1 << (samples + len(kernel) - 1).bit_length()
    decorrelated = scipy.fft.irfft(scipy.fft.rfft(wav, size) * scipy.fft.rfft(kernel, size), size)[:samples]
    mid, other = (
        scipy.fft.rfft(
            sliding_window_view(np.pad(x, (n_fft, length - n_fft - samples)), n_fft)[::hop_length] * window,
            axis=1,
        )
        for x in (wav, decorrelated)
    )
    of_frame = np.clip(np.arange(frames) - 2, 0, len(parameters) - 1)
    along, across = side_gains(parameters[of_frame])
    filterbank = stereo_filterbank(n_fft // 2 + 1, sample_rate, along.shape[1])
    side = _mixed(mid, other, along, across, filterbank)
    total = overlap_add(scipy.fft.irfft(side, n_fft, axis=1) * window, hop_length)
    # The sum of four squared Hann windows.
    return total[n_fft : n_fft + samples] / np.float32(1.5)


def _mixed(mid: Spectra, other: Spectra, along: Values, across: Values, filterbank: Values) -> Spectra:
    """Side spectrum (frames, bins) of mid and decorrelated spectra and their gains; see `audio.stereo`."""
    mid_power, other_power, cross = (
        smoothed(value @ filterbank)
        for value in (np.abs(mid) ** 2, np.abs(other) ** 2, (mid * other.conj()).real)
    )
    shared = cross / np.maximum(mid_power, 1e-20)
    rest = np.maximum(other_power - shared * cross, 0)
    level = np.minimum(np.sqrt(mid_power / np.maximum(rest, 1e-20)), 4.0)
    of_mid, of_other = along - across * level * shared, across * level
    return (of_mid @ filterbank.T) * mid + (of_other @ filterbank.T) * other
