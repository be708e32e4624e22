"""Bands of a sound, with gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from melodygan_core.config import FeatureConfig
from melodygan_core.features import band_filterbank
from melodygan_core.vocoder.losses import magnitude


class LogBands(torch.nn.Module):
    """wav -> bands with gradients; the same values as `features.FeatureExtractor`.

    Args:
        feature: Sizes and floor.
        filterbank: (n_fft // 2 + 1, bands); that of the spectrum by default.
    """

    filterbank: Tensor

    def __init__(self, feature: FeatureConfig, filterbank: Tensor | None = None) -> None:
        super().__init__()
        self.feature = feature
        self.register_buffer("filterbank", band_filterbank(feature) if filterbank is None else filterbank)

    def forward(self, wav: Tensor) -> Tensor:
        """(batch, samples) -> (batch, bands, frames), natural log of magnitude."""
        f = self.feature
        # A band sums over bins: with the usual floor per bin, silence in a wide band is far above log_floor.
        bands = self.filterbank.T @ magnitude(wav, f.n_fft, f.hop_length, min_magnitude=1e-4 * f.log_floor)
        return bands.clamp_min(f.log_floor).log()
