"""Filterbanks of the log bands and of the mels, and the way from one to the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchaudio.functional
from torch import Tensor, nn

from melodygan_core.config import FeatureConfig

# Natural log of more than any band or bin of a wav in [-1, 1], which is at most about n_fft / 2.
MAX_LOG = 10.0


def mel_filterbank(config: FeatureConfig) -> Tensor:
    """Returns triangular mel bands, HTK scale, no normalisation, from 0 Hz to half the sample rate.

    Returns:
        Weights (n_fft // 2 + 1, n_mels) float32 of torchaudio's `melscale_fbanks`.
    """
    return torchaudio.functional.melscale_fbanks(
        config.n_fft // 2 + 1, 0.0, config.sample_rate / 2, config.n_mels, config.sample_rate, None, "htk"
    )


def log_filterbank(config: FeatureConfig) -> Tensor:
    """Returns triangular bands of peak 1 around `config.log_band_centres_hz`.

    Each ends at the centres of its neighbours. From the first centre to half the sample rate the weights of
    every bin add up to 1. Bins below the first centre have none.

    Returns:
        Weights (n_fft // 2 + 1, number of log bands) float32.
    """
    centres = torch.tensor(config.log_band_centres_hz, dtype=torch.float64) / config.bin_hz
    bins = torch.arange(config.n_fft // 2 + 1, dtype=torch.float64)[:, None]
    # Outside the outermost bands there is nothing: their outer sides are as steep as may be.
    edges = torch.cat([centres[:1] - 1, centres, centres[-1:] + 1])
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    # Centres that are bins are so but for rounding.
    weights = torch.minimum(rising, falling).clamp_min(0)
    return torch.where(weights < 1e-9, 0.0, weights).float()


def band_filterbank(config: FeatureConfig) -> Tensor:
    """Weights (n_fft // 2 + 1, n_bands) of the bands of the spectrum: log bands or mels."""
    return log_filterbank(config) if config.bands == "log" else mel_filterbank(config)


def interpolation(filterbank: Tensor) -> Tensor:
    """Bands -> bins, linear between the centres of bands: non-negative, unlike a pseudo-inverse.

    Args:
        filterbank: (bins, bands) triangles whose weights add up to 1 in each bin.

    Returns:
        (bands, bins): the magnitude of a bin is the mean of the bands that it lies in, per bin of the band.
    """
    return (filterbank / filterbank.sum(dim=0).clamp_min(1e-6)).T


class BandConversion(nn.Module):
    """Log magnitudes of one filterbank -> what those of another would be, by a fixed non-negative matrix.

    Args:
        source: (bins, n) filterbank of what comes in.
        target: (bins, m) filterbank of what goes out.
        log_floor: Magnitude at which both are clamped.
    """

    matrix: Tensor

    def __init__(self, source: Tensor, target: Tensor, log_floor: float) -> None:
        super().__init__()
        self.log_floor = log_floor
        self.register_buffer("matrix", interpolation(source) @ target, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """(..., n) natural log of magnitudes -> (..., m)."""
        magnitude = (values.clamp(max=MAX_LOG).exp() - self.log_floor).clamp_min(0)
        return (magnitude @ self.matrix).clamp_min(self.log_floor).log()


def mels_of_spectrum(config: FeatureConfig) -> nn.Module:
    """Spectrum (..., n_bands), natural log of magnitude -> log_mel (..., n_mels).

    Where bands are mels, they stay as they are. Sets that are compared all have to come this way: what is lost
    between bands is lost in all of them.
    """
    return _conversion(config, band_filterbank, mel_filterbank)


def spectrum_of_mels(config: FeatureConfig) -> nn.Module:
    """log_mel (..., n_mels), natural log of magnitude -> spectrum (..., n_bands).

    Where bands are mels, they stay as they are.
    """
    return _conversion(config, mel_filterbank, band_filterbank)


def _conversion(
    config: FeatureConfig,
    source: Callable[[FeatureConfig], Tensor],
    target: Callable[[FeatureConfig], Tensor],
) -> nn.Module:
    if config.bands == "mel":
        return nn.Identity()
    # Not weights: they have values even where a checkpoint is built on the meta device.
    with torch.device("cpu"):
        return BandConversion(source(config), target(config), config.log_floor)
