"""Spectrum -> wav by onnxruntime and numpy: the neural vocoder, and Griffin-Lim."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import FeatureConfig, GriffinLimConfig
from melodygan_core.export.runtime.phase import single_pass_phase
from melodygan_core.export.runtime.stft import Stft, istft, polar, sgn, stft
from melodygan_core.export.runtime.torch_random import TorchRandom

# The constants of `vocoder` and `features`, which import torch; a test compares them.
MAX_LOG = 10.0
MAX_RATIO = 4.0
MIN_MAGNITUDE = 1e-4
BLOCK_VALUES = 2**21
_EPSILON = 1e-16

# float32; the operations of numpy are typed as of any precision.
Values = NDArray[Any]
# Arrays with a batch of one in and out.
Network = Callable[..., Values]


def pad_to_window(spectrum: Values, feature: FeatureConfig) -> Values:
    """Appends silence to a spectrum (frames, n_bands) that is too short for the STFT's reflected ends."""
    fewest = feature.n_fft // (2 * feature.hop_length) + 2
    missing = max(0, fewest - len(spectrum))
    return np.pad(spectrum, ((0, missing), (0, 0)), constant_values=math.log(feature.log_floor))


class NeuralVocoder:
    """See `vocoder.NeuralVocoder`: phases and STFT by numpy, the network by onnxruntime.

    Args:
        feature: Of the spectra.
        iterations: Of Griffin-Lim in the initial spectrum.
        reach: Frames on each side that the network sees.
        magnitude: Network, spectrum (1, frames, n_bands) -> magnitudes (1, frames, n_fft // 2 + 1).
        change: Network, spectrum and both parts of the ratio -> changes (1, frames, 2 * (n_fft // 2 + 1)).
    """

    def __init__(
        self, feature: FeatureConfig, iterations: int, reach: int, magnitude: Network, change: Network
    ) -> None:
        self._feature, self._iterations = feature, iterations
        self._magnitude, self._change = magnitude, change
        overlap = feature.n_fft // feature.hop_length
        self._overlap, self._context = overlap, (2 + iterations) * overlap + reach

    def __call__(self, spectrum: Values) -> Values:
        """Spectrum (frames, n_bands), natural log -> wav ((frames - 1) * hop_length,), block by block."""
        f, frames = self._feature, len(spectrum)
        spectrum = pad_to_window(spectrum, f)
        size, last = max(1, BLOCK_VALUES // (f.n_fft // 2)), len(spectrum)
        before, wavs = None, []
        for start in range(0, last, size):
            end, first = min(start + size, last), max(0, start - self._context)
            block = spectrum[first : end + self._context]
            magnitude = np.maximum(self._magnitude(block[None])[0], np.float32(MIN_MAGNITUDE))
            phase = single_pass_phase(magnitude, f.hop_length, before)
            following = end - self._context - 1 - first
            before = phase[following] if following >= 0 else None
            wide = max(0, start - self._overlap) - first
            refined = self._refined(block, magnitude, phase)[wide : end + self._overlap - first]
            skipped = (start - first - wide) * f.hop_length
            wav = istft(refined, f.n_fft, f.hop_length)
            wavs.append(wav[skipped : skipped + (end - start) * f.hop_length])
        return np.concatenate(wavs)[: (frames - 1) * f.hop_length]

    def _refined(self, spectrum: Values, magnitude: Values, phase: Values) -> Stft:
        initial = polar(magnitude, phase)
        for _ in range(self._iterations):
            resynthesis = self._resynthesised(initial)
            initial = np.where(resynthesis == 0, initial, magnitude * sgn(resynthesis))
        ratio = self._resynthesised(initial) / initial
        ratio *= np.float32(MAX_RATIO) / np.maximum(np.abs(ratio), np.float32(MAX_RATIO))
        change = self._change(spectrum[None], ratio.real[None].copy(), ratio.imag[None].copy())[0]
        d_log_mag, d_phase = np.split(change, 2, axis=1)
        new_magnitude = np.exp(np.minimum(np.log(magnitude) + d_log_mag, np.float32(MAX_LOG)))
        if self._feature.bands == "mel":
            return polar(new_magnitude, phase + d_phase)
        return polar(new_magnitude, d_phase) * sgn(initial * ratio)

    def _resynthesised(self, spectrum: Stft) -> Stft:
        f = self._feature
        return stft(istft(spectrum, f.n_fft, f.hop_length), f.n_fft, f.hop_length)


class GriffinLim:
    """See `vocoder.GriffinLim`.

    Args:
        feature: Of the spectra.
        config: Iterations and momentum.
        magnitude: Network, spectrum (1, frames, n_bands) -> magnitudes (1, frames, n_fft // 2 + 1).
    """

    def __init__(self, feature: FeatureConfig, config: GriffinLimConfig, magnitude: Network) -> None:
        self._feature, self._config, self._magnitude = feature, config, magnitude

    def __call__(self, spectrum: Values, seed: int) -> Values:
        """Spectrum (frames, n_bands), natural log -> wav ((frames - 1) * hop_length,).

        Args:
            spectrum: Natural log of magnitude.
            seed: Of the initial phases.
        """
        f, frames = self._feature, len(spectrum)
        magnitude = self._magnitude(pad_to_window(spectrum, f)[None])[0]
        count, bins = magnitude.shape
        # torch draws real and imaginary part in turn, bin by bin.
        drawn = TorchRandom(seed).rand(2 * bins * count).view(np.complex64)
        phasor = np.ascontiguousarray(drawn.reshape(bins, count).T)
        momentum = np.float32(self._config.momentum / (1 + self._config.momentum))
        previous = np.zeros_like(phasor)
        for _ in range(self._config.iterations):
            wav = istft(magnitude * phasor, f.n_fft, f.hop_length)
            rebuilt = stft(wav, f.n_fft, f.hop_length)
            phasor = rebuilt - momentum * previous
            phasor /= np.abs(phasor) + np.float32(_EPSILON)
            previous = rebuilt
        return istft(magnitude * phasor, f.n_fft, f.hop_length)[: (frames - 1) * f.hop_length]
