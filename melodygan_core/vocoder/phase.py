"""Initial STFT of a spectrum: magnitudes of bins from bands, phases by single-pass spectrogram inversion."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core.config import FeatureConfig
from melodygan_core.features import MAX_LOG, band_filterbank

_MIN_MAGNITUDE = 1e-4
_EPSILON = 1e-5
# Each costs a fifth of the vocoder. On the demo's songs the KAD of the initial spectrum to the original is 197,
# after one iteration 125, after two 81, after three 72; NeuralVocoder makes one more.
_ITERATIONS = 1
# First phases that do not line up. They are fixed, so that the same magnitudes always sound the same.
_GOLDEN = (math.sqrt(5) - 1) / 2


def pad_to_window(spectrum: Tensor, feature: FeatureConfig) -> Tensor:
    """Appends silence to a spectrum that is too short for the STFT, which reflects half a window at the ends.

    Args:
        spectrum: (batch, n_bands, frames), natural log.
        feature: How it was made.
    """
    fewest = feature.n_fft // (2 * feature.hop_length) + 2
    return F.pad(spectrum, (0, max(0, fewest - spectrum.shape[2])), value=math.log(feature.log_floor))


class BandInverse(nn.Module):
    """Spectrum -> magnitudes of the bins of the STFT, by the pseudo-inverse of the filterbank.

    Args:
        feature: How the spectrum was made.
    """

    inverse: Tensor

    def __init__(self, feature: FeatureConfig) -> None:
        super().__init__()
        self.feature = feature
        # Not a weight: it has values even where a checkpoint is built on the meta device.
        with torch.device("cpu"):
            self.register_buffer("inverse", torch.linalg.pinv(band_filterbank(feature)), persistent=False)

    @torch.no_grad()
    def forward(self, spectrum: Tensor, min_magnitude: float = 0.0) -> Tensor:
        """(batch, n_bands, frames), natural log -> (batch, n_fft // 2 + 1, frames), at least a magnitude."""
        bands = (spectrum.clamp(max=MAX_LOG).exp() - self.feature.log_floor).clamp_min(0)
        return (bands.transpose(1, 2) @ self.inverse).clamp_min(min_magnitude).transpose(1, 2)


class InitialSpectrum(nn.Module):
    """Spectrum -> magnitudes and phases of an STFT, without anything learned.

    Phases are tracked from frame to frame (`forward`), then made consistent (`consistent`): the windows of log
    bands are long and overlap eightfold, and tracked phases alone smear onsets.

    Args:
        feature: How the spectrum was made.
    """

    window: Tensor

    def __init__(self, feature: FeatureConfig) -> None:
        super().__init__()
        self.feature = feature
        self.inverse = BandInverse(feature)
        # With mels there were none in version 0.1, whose vocoders were trained so.
        self.iterations = _ITERATIONS if feature.bands == "log" else 0
        with torch.device("cpu"):
            self.register_buffer("window", torch.hann_window(feature.n_fft), persistent=False)

    def magnitude(self, spectrum: Tensor) -> Tensor:
        """Spectrum (batch, n_bands, frames), natural log -> magnitudes (batch, n_fft // 2 + 1, frames)."""
        return self.inverse(spectrum, _MIN_MAGNITUDE)

    @torch.no_grad()
    def forward(self, spectrum: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Spectrum (batch, n_bands, frames) -> magnitude and phase, each (batch, n_fft // 2 + 1, frames).

        Args:
            spectrum: Natural log.
            before: Phases of the frame before the first; see single_pass_phase.
        """
        magnitude = self.magnitude(spectrum)
        return magnitude, single_pass_phase(magnitude, self.feature.hop_length, before)

    @torch.no_grad()
    def consistent(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        """STFT of these magnitudes, with the phases after `iterations` of Griffin-Lim (1984).

        Args:
            magnitude: (batch, n_fft // 2 + 1, frames).
            phase: Of the same shape.

        Returns:
            Complex, of the same shape.
        """
        f, stft = self.feature, torch.polar(magnitude, phase)
        for _ in range(self.iterations):
            wav = torch.istft(stft, f.n_fft, f.hop_length, window=self.window)
            resynthesis = torch.stft(wav, f.n_fft, f.hop_length, window=self.window, return_complex=True)
            # Zero has no phase: it keeps the one that it had, because what follows divides by these.
            stft = torch.where(resynthesis == 0, stft, magnitude * resynthesis.sgn())
        return stft


@torch.no_grad()
def single_pass_phase(magnitude: Tensor, hop_length: int, before: Tensor | None = None) -> Tensor:
    """Phases of sinusoids that are tracked from frame to frame (SPSI: Beauregard, Harish and Wyse 2015).

    Each bin belongs to the nearest peak of its frame; in a frame without a peak, such as silence, every bin is
    its own. The frequency of a peak, interpolated between bins, gives the phase advance since the last frame.
    The bins of a peak advance with it, neighbours half a turn apart.

    The loop over frames runs on the CPU, wherever the magnitudes are: a GPU waits for it.

    Args:
        magnitude: (batch, n_fft // 2 + 1, frames).
        hop_length: Of the STFT.
        before: (batch, n_fft // 2 + 1) phases of the frame before the first, to continue from.

    Returns:
        Radians in [0, 2 pi), of the same shape.
    """
    batch, bins, _ = magnitude.shape
    level = magnitude.clamp_min(_EPSILON).log().transpose(1, 2).cpu().contiguous()
    if before is None:
        initial = np.tile(2 * math.pi * _GOLDEN * np.arange(bins), (batch, 1))
    else:
        initial = before.cpu().double().contiguous().numpy()
    phase = np.empty(level.shape, np.float32)
    _kernel()(level.numpy(), initial, np.float32(2 * math.pi * hop_length / (2 * (bins - 1))), phase)
    return torch.from_numpy(phase).to(magnitude.device).transpose(1, 2)


@cache
def _kernel() -> Any:
    # The import takes half a second, and only sound needs it.
    import numba

    # By torch's operations on whole spectrograms, this takes more time than all of the network.
    @numba.njit("void(float32[:,:,::1], float64[:,::1], float32, float32[:,:,::1])", nogil=True, cache=True)
    def kernel(level: Any, initial: Any, advance: Any, phase: Any) -> None:
        batch, frames, bins = level.shape
        half, epsilon, pi = np.float32(0.5), np.float32(_EPSILON), np.float32(np.pi)
        peaks, offsets = np.empty(bins, np.int64), np.empty(bins, np.float32)
        for b in range(batch):
            # In float64, because float32 loses the phase over an hour's frames.
            now, following = initial[b].copy(), np.empty(bins, np.float64)
            for t in range(frames):
                row, count = level[b, t], 0
                for k in range(1, bins - 1):
                    lower, here, upper = row[k - 1], row[k], row[k + 1]
                    if here > lower and here >= upper:
                        curvature = min(lower - np.float32(2) * here + upper, -epsilon)
                        peaks[count] = k
                        offsets[count] = min(max(half * (lower - upper) / curvature, -half), half)
                        count += 1
                nearest = 0
                for k in range(bins):
                    while nearest + 1 < count and peaks[nearest + 1] - k < k - peaks[nearest]:
                        nearest += 1
                    source = peaks[nearest] if count else k
                    offset = offsets[nearest] if count else np.float32(0)
                    turn = pi if (k - source) % 2 else np.float32(0)
                    following[k] = now[source] + np.float64(
                        advance * np.float32(np.float32(source) + offset) + turn
                    )
                    phase[b, t, k] = following[k] % (2 * np.pi)
                now, following = following, now

    return kernel
