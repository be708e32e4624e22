"""Parametric stereo: level difference and correlation of the channels per band, and stereo made from mono.

After MPEG-4 Parametric Stereo (Breebaart et al. 2005), with one difference: the side signal is added to the
left channel and subtracted from the right one, so that the mean of the channels is always the mono sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

# Frames over which levels and correlations are averaged: 93 ms at 86 frames per second.
SMOOTHED_FRAMES = 8
# A channel that is 30 dB below the other one is not heard any more.
MAX_LEVEL_DIFFERENCE_DB = 30.0
# The mean of channels of opposite phase has no sound to rebuild them from. At this correlation and equal levels
# the side signal is 6 dB above the mid signal.
MIN_CORRELATION = -0.6
# -120 dB of full scale.
_SILENT_POWER = 1e-12
# 40 dB below the level of both channels.
_LEAST_SHARE = 1e-4
# Time in which the decorrelating filter decays by 60 dB: longer is heard as reverberation.
_DECORRELATION_S = 0.03
# Frames that are synthesised at once.
BLOCK_FRAMES = 1024


@lru_cache(maxsize=16)
def stereo_filterbank(bins: int, sample_rate: int, bands: int) -> Tensor:
    """Triangular bands whose centres have equal distances on the ERB scale; the weights of a bin sum to 1.

    Args:
        bins: n_fft // 2 + 1.
        sample_rate: In Hz.
        bands: Number of bands.

    Returns:
        (bins, bands) float32.
    """
    frequency = torch.linspace(0, sample_rate / 2, bins, dtype=torch.float64)
    # The ERB-rate scale of Glasberg and Moore 1990.
    erb = 21.4 * torch.log10(1 + 0.00437 * frequency)
    position = erb / erb[-1] * (bands - 1)
    weights = (1 - (position[:, None] - torch.arange(bands)).abs()).clamp_min(0)
    return weights.float()


def _smoothed(power: Tensor) -> Tensor:
    """(frames, bands) -> moving mean over SMOOTHED_FRAMES; fewer frames at the ends."""
    before = SMOOTHED_FRAMES // 2
    padded = F.pad(power.T[None], (before, SMOOTHED_FRAMES - 1 - before))
    counts = F.pad(torch.ones_like(power.T[None, :1]), (before, SMOOTHED_FRAMES - 1 - before))
    total = F.avg_pool1d(padded, SMOOTHED_FRAMES, 1)
    return (total / F.avg_pool1d(counts, SMOOTHED_FRAMES, 1))[0].T


def channel_powers(mid: Tensor, side: Tensor, filterbank: Tensor) -> Tensor:
    """Powers of left and right, and the real part of their cross power, per frame and band.

    Args:
        mid: STFT (frames, bins) complex of (left + right) / 2, by a Hann window.
        side: The same of (left - right) / 2.
        filterbank: (bins, bands) of `stereo_filterbank`.

    Returns:
        (frames, 3 * bands) float32.
    """
    left, right = mid + side, mid - side
    values = (left.abs().square(), right.abs().square(), (left * right.conj()).real)
    return torch.cat([value @ filterbank for value in values], dim=1)


def stereo_parameters(powers: Tensor, bins: int) -> Tensor:
    """Level difference and correlation of the channels, per frame and band.

    Args:
        powers: (frames, 3 * bands) of `channel_powers`, all frames of a sound.
        bins: Number of bins of the STFT.

    Returns:
        (frames, 2 * bands) float32: level of left over right in units of MAX_LEVEL_DIFFERENCE_DB, in [-1, 1],
        then the correlation of the channels, in [MIN_CORRELATION, 1]. Silence has (0, 1), as mono has.
    """
    left, right, cross = _smoothed(powers).chunk(3, dim=1)
    silent = _SILENT_POWER * bins**2
    level_db = 10 * ((left + silent) / (right + silent)).log10()
    # Where one channel is silent the correlation is 1, not the noise of the other.
    least = silent + _LEAST_SHARE * (left + right)
    correlation = (cross + least) / ((left * right).sqrt() + least)
    return torch.cat(
        [(level_db / MAX_LEVEL_DIFFERENCE_DB).clamp(-1, 1), correlation.clamp(MIN_CORRELATION, 1)], dim=1
    )


def mono_parameters(frames: int, bands: int) -> Tensor:
    """The parameters (frames, 2 * bands) of equal channels."""
    return torch.cat([torch.zeros(frames, bands), torch.ones(frames, bands)], dim=1)


def side_gains(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Gains of mid signal and decorrelated mid signal whose sum is the side signal.

    With level ratio r = |left| / |right| and correlation k, and powers relative to the mid signal's:
    <side, mid> = (r^2 - 1) / (r^2 + 1 + 2 k r) and |side|^2 = (r^2 + 1 - 2 k r) / (r^2 + 1 + 2 k r).

    Args:
        parameters: (..., 2 * bands) as of `stereo_parameters`; values outside their ranges are clamped.

    Returns:
        Two tensors (..., bands): gain of the mid signal in [-1, 1] or more for negative correlations, and gain
        of the decorrelated signal, at least 0.
    """
    level, correlation = parameters.chunk(2, dim=-1)
    ratio = 10 ** (level.clamp(-1, 1) * (MAX_LEVEL_DIFFERENCE_DB / 20))
    correlation = correlation.clamp(MIN_CORRELATION, 1)
    scale = ratio.square() + 1 + 2 * correlation * ratio
    along = (ratio.square() - 1) / scale
    power = (ratio.square() + 1 - 2 * correlation * ratio) / scale
    return along, (power - along.square()).clamp_min(0).sqrt()


@lru_cache(maxsize=8)
def _decorrelating_filter(sample_rate: int) -> Tensor:
    """Decaying noise with a flat spectrum (samples,): it changes phases, and no magnitude."""
    size = 1 << max(6, round(_DECORRELATION_S * sample_rate - 1).bit_length())
    rng = torch.Generator().manual_seed(0)
    decay = torch.exp(-6.9 * torch.arange(size) / (_DECORRELATION_S * sample_rate))
    spectrum = torch.fft.rfft(torch.randn(size, generator=rng) * decay)
    return torch.fft.irfft(spectrum / spectrum.abs().clamp_min(1e-9), size)


@dataclass(frozen=True)
class StereoSynthesis:
    """Makes stereo sound of mono sound and stereo parameters.

    Attributes:
        sample_rate: In Hz.
        hop_length: Samples between two frames of the parameters.
        bands: Number of bands.
    """

    sample_rate: int
    hop_length: int
    bands: int

    @torch.no_grad()
    def __call__(self, wav: Tensor, parameters: Tensor) -> Tensor:
        """Left and right, whose mean is the given sound up to rounding.

        Args:
            wav: (samples,) mono.
            parameters: (frames, 2 * bands); frame t is centred on sample t * hop_length. The last frame stays
                until the end of the sound.

        Returns:
            (2, samples)
        """
        side = self._side(wav, parameters)
        return torch.stack([wav + side, wav - side])

    def _side(self, wav: Tensor, parameters: Tensor) -> Tensor:
        hop, samples, parameters = self.hop_length, len(wav), _smoothed(parameters)
        n_fft = 4 * hop
        window = torch.hann_window(n_fft, device=wav.device)
        # Two frames more at both ends, so that four windows overlap at every sample.
        frames = 5 + -(-samples // hop)
        of_frame = (torch.arange(frames, device=wav.device) - 2).clamp(0, len(parameters) - 1)
        length = n_fft + (frames - 1) * hop
        mid, other = (
            F.pad(x, (n_fft, length - n_fft - samples)).unfold(0, n_fft, hop)
            for x in (wav, self._decorrelated(wav))
        )
        filterbank = stereo_filterbank(n_fft // 2 + 1, self.sample_rate, self.bands).to(wav.device)
        out = wav.new_zeros(length)
        for first in range(0, frames, BLOCK_FRAMES):
            # The projection averages over neighbouring frames, which a block needs, too.
            start, end = max(0, first - SMOOTHED_FRAMES), min(frames, first + BLOCK_FRAMES + SMOOTHED_FRAMES)
            a, b = (torch.fft.rfft(x[start:end] * window) for x in (mid, other))
            along, across = side_gains(parameters[of_frame[start:end]])
            spectrum = _mixed(a, b, along, across, filterbank)
            inner = spectrum[first - start : first - start + BLOCK_FRAMES]
            pieces = torch.fft.irfft(inner, n_fft) * window
            size = n_fft + (len(pieces) - 1) * hop
            added = F.fold(pieces.T[None], (1, size), (1, n_fft), stride=(1, hop)).flatten()
            out[first * hop : first * hop + size] += added
        # The sum of four squared Hann windows.
        return out[n_fft : n_fft + samples] / 1.5

    def _decorrelated(self, wav: Tensor) -> Tensor:
        kernel = _decorrelating_filter(self.sample_rate).to(wav.device)
        size = 1 << (len(wav) + len(kernel) - 1).bit_length()
        product = torch.fft.rfft(wav, size) * torch.fft.rfft(kernel, size)
        return torch.fft.irfft(product, size)[: len(wav)]


def _mixed(mid: Tensor, other: Tensor, along: Tensor, across: Tensor, filterbank: Tensor) -> Tensor:
    """Side spectrum (frames, bins) of mid and decorrelated spectra and their gains (frames, bands).

    A filter cannot decorrelate a steady tone: what of the other spectrum is in phase with the mid one in a band
    is taken out, and the rest raised to the level of the mid one.
    """
    mid_power, other_power, cross = (
        _smoothed(value @ filterbank)
        for value in (mid.abs().square(), other.abs().square(), (mid * other.conj()).real)
    )
    shared = cross / mid_power.clamp_min(1e-20)
    rest = (other_power - shared * cross).clamp_min(0)
    # At most 12 dB: where nearly all is in phase, the rest is rounding.
    level = (mid_power / rest.clamp_min(1e-20)).sqrt().clamp_max(4.0)
    of_mid, of_other = along - across * level * shared, across * level
    return (of_mid @ filterbank.T) * mid + (of_other @ filterbank.T) * other
