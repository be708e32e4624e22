"""A flow from the neural vocoder's magnitudes plus noise to true ones; the phases follow by projection."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from melodygan_core.config import FeatureConfig, FlowVocoderConfig
from melodygan_core.networks import FlowNetwork, solve
from melodygan_core.vocoder.bands import LogBands
from melodygan_core.vocoder.blocks import block_wav, blocks
from melodygan_core.vocoder.flow.spectra import REACH, MatchBands, Residual, compress, expand, stft_of
from melodygan_core.vocoder.neural import NeuralVocoder
from melodygan_core.vocoder.phase import pad_to_window

# Bounds of the logarithm of a predicted variance.
_MAX_LOG_VARIANCE = 6.0


class WaveformFlow(FlowNetwork):
    """(magnitudes at a time, first magnitudes, bands of both) -> the magnitudes where the flow ends.

    A rectified flow (arXiv 2209.03003) at frame rate that starts near its end, as FlowDec does (arXiv
    2503.01485): at time 0 the neural vocoder's compressed magnitudes plus noise as strong as its error; at time
    1 the true ones. Noise does not fit through the width of the network. So the network makes mean and variance
    of the end of each bin, and the prediction is the end that these and the present value make likeliest (as
    in preconditioning, arXiv 2206.00364): where the variance is small, the noise vanishes.

    Args:
        config: Sizes.
        feature: Of the STFT and the bands.
    """

    noise_std: Tensor

    def __init__(self, config: FlowVocoderConfig, feature: FeatureConfig) -> None:
        bins = feature.n_fft // 2 + 1
        # Untrained, mean 0 and variance 1: the neural vocoder's own magnitudes at time 0.
        super().__init__(2 * feature.n_bands + 2 * bins, 2 * bins, config.width, config.blocks, config.kernel)
        self.config, self.feature = config, feature
        # Root mean square of the neural vocoder's error on validation music.
        self.register_buffer("noise_std", torch.ones(bins))

    def forward(self, relative: Tensor, time: Tensor, residual: Residual, conditions: Tensor) -> Tensor:
        """Predicts where the flow ends.

        Args:
            relative: (batch, n_fft // 2 + 1, frames), the flow at `time`, by `Residual.relative`.
            time: (batch,), in [0, 1).
            residual: Of the first spectrum.
            conditions: (batch, 2 * n_bands, frames), by `FlowVocoder.conditions`.

        Returns:
            Of the shape of `relative`.
        """
        inputs = torch.cat([relative, residual.contour, conditions], dim=1).transpose(1, 2)
        change = self.change_of(inputs, time).float()
        mean, log_variance = change.transpose(1, 2).chunk(2, dim=1)
        variance = log_variance.clamp(-_MAX_LOG_VARIANCE, _MAX_LOG_VARIANCE).exp()
        return likeliest_end(relative, time, mean, variance)


def likeliest_end(relative: Tensor, time: Tensor, mean: Tensor | float, variance: Tensor | float) -> Tensor:
    """The expected end of a flow of which the end is normal and the start has mean 0 and variance 1.

    Args:
        relative: (batch, bins, frames), the flow at `time`.
        time: (batch,).
        mean: Of the end.
        variance: Of the end.
    """
    t = time[:, None, None]
    gain = t * variance / ((1 - t).square() + t.square() * variance)
    return mean + gain * (relative - t * mean)


class FlowVocoder(nn.Module):
    """spectrum -> neural vocoder -> a few steps of the flow -> inverse STFT.

    Args:
        neural: Makes the first sound.
        flow: Refines it.
    """

    window: Tensor

    def __init__(self, neural: NeuralVocoder, flow: WaveformFlow) -> None:
        super().__init__()
        self.neural, self.flow = neural, flow
        self.feature = neural.feature
        self.log_bands, self.match_bands = LogBands(neural.feature), MatchBands(neural.feature)
        # Not a weight: it has values even where a checkpoint is built on the meta device.
        with torch.device("cpu"):
            self.register_buffer("window", torch.hann_window(self.feature.n_fft), persistent=False)

    def conditions(self, bands: Tensor, first_wav: Tensor) -> Tensor:
        """Bands, and how far those of the first sound are from them: (batch, 2 * n_bands, frames).

        Args:
            bands: (batch, n_bands, frames), natural log.
            first_wav: (batch, (frames - 1) * hop_length), by the neural vocoder.
        """
        return torch.cat([bands, bands - self.log_bands(first_wav)], dim=1)

    def noise_of(self, white: Tensor, first: Tensor) -> Tensor:
        """What white noise adds to the magnitudes of a first spectrum, of variance 1.

        The noise is one of samples, not of bins: windows overlap, so that the magnitudes of neighbouring frames
        change together.

        Args:
            white: (batch, samples), of variance 1.
            first: Complex (batch, n_fft // 2 + 1, frames).
        """
        stft = stft_of(white, self.feature, self.window) / (0.5 * self.window.square().sum()).sqrt()
        phasor = first.sgn()
        return stft.real * phasor.real + stft.imag * phasor.imag

    @torch.no_grad()
    def refine(self, first_wav: Tensor, bands: Tensor, white: Tensor) -> Tensor:
        """The STFT of the refined sound: complex (batch, n_fft // 2 + 1, frames).

        Between steps the spectrum is brought to the given bands, and then to that of a sound. The second is an
        iteration of Griffin-Lim (1984), by which the phases follow the magnitudes.

        Args:
            first_wav: (batch, (frames - 1) * hop_length), by the neural vocoder.
            bands: (batch, n_bands, frames), natural log.
            white: White noise of the shape of `first_wav`.
        """
        f, config = self.feature, self.flow.config
        first = compress(stft_of(first_wav, f, self.window))
        residual = Residual(first.abs(), self.flow.noise_std)
        conditions = self.conditions(bands, first_wav)

        def predict(x: Tensor, time: Tensor) -> Tensor:
            relative = self.flow(residual.relative(x.abs()), time, residual, conditions)
            return residual.absolute(relative) * x.sgn()

        def project(x: Tensor) -> Tensor:
            stft = self.match_bands(expand(x), bands)
            wav = torch.istft(stft, f.n_fft, f.hop_length, window=self.window)
            return compress(stft_of(wav, f, self.window))

        start = residual.absolute(config.noise * self.noise_of(white, first)) * first.sgn()
        return self.match_bands(expand(solve(predict, start, config.steps, project)), bands)

    @torch.no_grad()
    def forward(
        self, spectrum: Tensor, seed: int | Sequence[int] = 0, block_frames: int | None = None
    ) -> Tensor:
        """Makes sound; long spectra are processed in blocks, so that memory does not grow with them.

        The noise of a sample depends on the seed and its position alone, so that a longer piece begins as a
        shorter one does.

        Args:
            spectrum: (batch, n_bands, frames), natural log.
            seed: Of the noise; one for all examples, or one for each.
            block_frames: Frames per block; see `blocks.blocks`. The sound is the same but for rounding.

        Returns:
            wav (batch, (frames - 1) * hop_length)
        """
        f, frames = self.feature, spectrum.shape[2]
        padded = pad_to_window(spectrum, f)
        first_wav = self.neural(padded, block_frames)
        white = _white_noise(seed, first_wav)
        wavs = []
        for block in blocks(padded.shape[2], self._context, f, block_frames):
            samples = slice(block.first * f.hop_length, (block.last - 1) * f.hop_length)
            bands = padded[:, :, block.first : block.last]
            stft = self.refine(first_wav[:, samples], bands, white[:, samples])
            wavs.append(block_wav(stft, block, f, self.window))
        return torch.cat(wavs, dim=1)[:, : (frames - 1) * f.hop_length]

    @property
    def _context(self) -> int:
        """Frames that a frame depends on: per step network and projection, then level, first STFT and sound."""
        config, overlap = self.flow.config, math.ceil(self.feature.n_fft / self.feature.hop_length)
        step = overlap + config.blocks * (config.kernel // 2)
        return config.steps * step + REACH + 2 * overlap


def _white_noise(seed: int | Sequence[int], like: Tensor) -> Tensor:
    """Standard normal noise (batch, samples) on the device of `like`."""
    seeds = [seed] if isinstance(seed, int) else seed
    # numpy draws one number after the other; torch draws the end of a tensor differently.
    drawn = np.stack([np.random.default_rng(s).standard_normal(like.shape[1], np.float32) for s in seeds])
    return torch.from_numpy(drawn).to(like.device).expand(len(like), -1)
