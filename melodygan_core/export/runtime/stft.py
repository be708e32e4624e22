"""STFT of one sound and its inverse, as `torch.stft` and `torch.istft` compute them. Frames come first."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

# float32; the operations of numpy are typed as of any precision.
Samples = NDArray[Any]
# (frames, n_fft // 2 + 1) complex64
Stft = NDArray[Any]


@lru_cache(maxsize=8)
def hann_window(n_fft: int) -> Samples:
    """The periodic Hann window (n_fft,)."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)


def stft(wav: Samples, n_fft: int, hop_length: int) -> Stft:
    """Centred STFT of (samples,) with reflected ends: (1 + samples // hop_length, n_fft // 2 + 1)."""
    padded = np.pad(wav, n_fft // 2, mode="reflect")
    frames = sliding_window_view(padded, n_fft)[::hop_length]
    return scipy.fft.rfft(frames * hann_window(n_fft), axis=1)


def overlap_add(frames: Samples, hop_length: int) -> Samples:
    """Sum of frames (n, size) that begin `hop_length` apart: ((n - 1) * hop_length + size,)."""
    count, size = frames.shape
    steps = -(-size // hop_length)
    padded = np.pad(frames, ((0, 0), (0, steps * hop_length - size)))
    total = np.zeros((count + steps - 1, hop_length), np.float32)
    for k in range(steps):
        total[k : k + count] += padded[:, k * hop_length : (k + 1) * hop_length]
    return total.reshape(-1)[: (count - 1) * hop_length + size]


def istft(spectrum: Stft, n_fft: int, hop_length: int) -> Samples:
    """Sound of a centred STFT: ((frames - 1) * hop_length,)."""
    window = hann_window(n_fft)
    frames = scipy.fft.irfft(spectrum, n_fft, axis=1) * window
    envelope = overlap_add(np.broadcast_to(window**2, frames.shape), hop_length)
    inside = slice(n_fft // 2, n_fft // 2 + (len(frames) - 1) * hop_length)
    return overlap_add(frames, hop_length)[inside] / envelope[inside]


def sgn(values: Stft) -> Stft:
    """Values divided by their magnitudes; 0 stays 0."""
    magnitude = np.abs(values)
    return np.divide(values, magnitude, out=np.zeros_like(values), where=magnitude > 0)


def polar(magnitude: Samples, phase: Samples) -> Stft:
    """Complex values of magnitudes and phases, in single precision."""
    made = np.empty(magnitude.shape, np.complex64)
    made.real, made.imag = magnitude * np.cos(phase), magnitude * np.sin(phase)
    return made
