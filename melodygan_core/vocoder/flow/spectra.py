"""Spectra as the flow sees them: compressed magnitudes relative to the first vocoder's; and the given bands."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melodygan_core.config import FeatureConfig
from melodygan_core.features import band_filterbank

# After FlowDec (arXiv 2503.01485): a range of 60 dB becomes one of 18 dB.
POWER = 0.3
# Compressed magnitudes below this are silence.
_EPSILON = 1e-6
# Bins and frames of a local mean: a peak of a Hann window is four bins wide.
_NEAR_BINS, _NEAR_FRAMES = 9, 5
# Frames on each side that a local mean depends on.
REACH = _NEAR_FRAMES // 2
# Least magnitude, in units of the residual.
_LEAST = 1e-3
# Largest change of a band in one step, as a natural log: 12 dB.
_MAX_GAIN = math.log(4.0)


def stft_of(wav: Tensor, feature: FeatureConfig, window: Tensor) -> Tensor:
    """STFT (batch, n_fft // 2 + 1, frames) of (batch, (frames - 1) * hop_length) samples."""
    return torch.stft(wav, feature.n_fft, feature.hop_length, window=window, return_complex=True)


def compress(stft: Tensor) -> Tensor:
    """Magnitudes to the power of 0.3, the same phases."""
    return stft * stft.abs().clamp_min(_EPSILON) ** (POWER - 1)


def expand(compressed: Tensor) -> Tensor:
    """The inverse of `compress`."""
    return compressed * compressed.abs() ** (1 / POWER - 1)


def local_mean(magnitude: Tensor) -> Tensor:
    """Mean over 9 bins and 5 frames around each, of (batch, bins, frames); fewer at the ends."""
    over_bins = F.avg_pool2d(
        magnitude[:, None], (_NEAR_BINS, 1), 1, (_NEAR_BINS // 2, 0), count_include_pad=False
    )
    return F.avg_pool2d(over_bins, (1, _NEAR_FRAMES), 1, (0, REACH), count_include_pad=False)[:, 0]


class Residual:
    """Compressed magnitudes relative to those of a first spectrum, in units of its local level.

    So silence stays silent, and the level does not matter.

    Args:
        first: Compressed magnitudes (batch, bins, frames).
        noise_std: (bins,), the size of a residual relative to the local level.
    """

    def __init__(self, first: Tensor, noise_std: Tensor) -> None:
        level = local_mean(first).clamp_min(_EPSILON)
        self.first = first
        self.unit = level * noise_std[:, None]
        self.contour = first / level

    def relative(self, magnitude: Tensor) -> Tensor:
        """Compressed magnitudes -> their difference to the first, in units, of the same shape."""
        return (magnitude - self.first) / self.unit

    def absolute(self, relative: Tensor) -> Tensor:
        """The inverse of `relative`; above 0, because zero has no phase to go on with."""
        return torch.maximum(self.first + relative * self.unit, _LEAST * self.unit)


class MatchBands(nn.Module):
    """An STFT with gains that bring its bands to given ones, as far as one step goes.

    The bands are known, and a mean error in compressed magnitudes comes out too quiet.

    Args:
        feature: How the bands were made.
    """

    filterbank: Tensor
    share: Tensor

    def __init__(self, feature: FeatureConfig) -> None:
        super().__init__()
        self.log_floor = feature.log_floor
        filterbank = band_filterbank(feature)
        self.register_buffer("filterbank", filterbank, persistent=False)
        # A bin between two bands gets a mean of their gains; a bin of no band stays as it is.
        total = filterbank.sum(dim=1, keepdim=True)
        self.register_buffer("share", filterbank / total.clamp_min(_EPSILON), persistent=False)

    def forward(self, stft: Tensor, bands: Tensor) -> Tensor:
        """Applies the gains.

        Args:
            stft: Complex (batch, n_fft // 2 + 1, frames).
            bands: (batch, n_bands, frames), natural log.

        Returns:
            Of the shape of `stft`.
        """
        made = (self.filterbank.T @ stft.abs()).clamp_min(self.log_floor).log()
        gain = (bands - made).clamp(-_MAX_GAIN, _MAX_GAIN)
        return stft * (self.share @ gain).exp()
