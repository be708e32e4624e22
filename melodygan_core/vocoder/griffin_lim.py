"""Spectrum -> wav without training: magnitudes of bins from bands, then fast Griffin-Lim."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from melodygan_core.config import FeatureConfig, GriffinLimConfig
from melodygan_core.features import check_spectrum_bytes
from melodygan_core.vocoder.phase import BandInverse, pad_to_window

_EPSILON = 1e-16


class GriffinLim:
    """Phase reconstruction (Griffin and Lim 1984; with momentum: Perraudin et al. 2013).

    As `torchaudio.functional.griffinlim`, but the initial phases depend on the seed alone, not on the device
    and not on the other examples of a batch.

    Args:
        feature: How the spectra were made.
        config: Iterations and momentum.
    """

    def __init__(self, feature: FeatureConfig, config: GriffinLimConfig | None = None) -> None:
        self.feature = feature
        self.config = config or GriffinLimConfig()
        self.inverse = BandInverse(feature)
        self.window = torch.hann_window(feature.n_fft)

    def __call__(self, spectrum: Tensor, seed: int | Sequence[int] = 0) -> Tensor:
        """Makes sound, on the device of the spectra.

        Args:
            spectrum: (batch, n_bands, frames), natural log of magnitude.
            seed: Of the initial phases; one for all examples, or one for each.

        Returns:
            wav (batch, (frames - 1) * hop_length) float32, not normalised.

        Raises:
            InputError: an example is too long for its STFT; see check_spectrum_bytes.
        """
        f, frames, device = self.feature, spectrum.shape[2], spectrum.device
        check_spectrum_bytes(frames, f, "the sound", gib=4)
        magnitude = self.inverse.to(device)(pad_to_window(spectrum, f))
        rngs = [torch.Generator().manual_seed(s) for s in ([seed] if isinstance(seed, int) else seed)]
        shape = (1, *magnitude.shape[1:])
        initial = torch.cat([torch.rand(shape, dtype=torch.complex64, generator=rng) for rng in rngs]).to(
            device
        )
        return self._reconstruct(magnitude, initial)[:, : (frames - 1) * f.hop_length]

    def _reconstruct(self, magnitude: Tensor, phasor: Tensor) -> Tensor:
        """Magnitudes (batch, n_fft // 2 + 1, frames) and initial complex phasors, not normalised -> wav."""
        f, window = self.feature, self.window.to(magnitude.device)
        momentum = self.config.momentum / (1 + self.config.momentum)
        previous = torch.zeros_like(phasor)
        for _ in range(self.config.iterations):
            wav = torch.istft(magnitude * phasor, f.n_fft, f.hop_length, window=window)
            rebuilt = torch.stft(wav, f.n_fft, f.hop_length, window=window, return_complex=True)
            phasor = rebuilt - momentum * previous
            phasor = phasor / (phasor.abs() + _EPSILON)
            previous = rebuilt
        return torch.istft(magnitude * phasor, f.n_fft, f.hop_length, window=window)
