"""Log-mel and MFCC of one wav from one STFT; the maths alone."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torchaudio.functional
from torch import Tensor
from torch.nn import functional as F

from melodygan_core.config import FeatureConfig, require
from melodygan_core.features.power import magnitude_and_power

# torchaudio.transforms.MFCC(log_mels=True) adds this before its log.
MFCC_OFFSET = 1e-6

# Spectra at once, so that they stay in a core's cache: 128 and 256 frames measured alike, 64 and 512 slower.
BLOCK_FRAMES = 256
# Mel bands multiplied at once, over the bins they cover: one dense product is mostly zeros, and the kernels of
# BLAS are made for 16 columns; 8 measured 2.6 times slower, 24 1.7 times.
BAND_GROUP = 16

Band = tuple[int, int, int, int, Tensor]


class _Constants(NamedTuple):
    window: Tensor
    bands: list[Band]
    dct: Tensor


def mel_filterbank(config: FeatureConfig) -> Tensor:
    """Triangular mel bands, HTK scale, no normalisation, from 0 Hz to half the sample rate.

    Returns:
        Weights (n_fft // 2 + 1, n_mels) float32, as torchaudio's `melscale_fbanks` makes them.
    """
    return torchaudio.functional.melscale_fbanks(
        config.n_fft // 2 + 1, 0.0, config.sample_rate / 2, config.n_mels, config.sample_rate, None, "htk"
    )


def _band_groups(filterbank: Tensor) -> list[Band]:
    """Groups of neighbouring bands: (first band, last + 1, first bin, last + 1, their weights)."""
    groups = []
    for first in range(0, filterbank.shape[1], BAND_GROUP):
        weights = filterbank[:, first : first + BAND_GROUP]
        bins = weights.any(dim=1).nonzero().flatten().tolist() or [0]
        low, high = bins[0], bins[-1] + 1
        groups.append((first, first + weights.shape[1], low, high, weights[low:high].contiguous()))
    return groups


class FeatureExtractor:
    """Log-mel and MFCC of one wav, from one STFT walked through in blocks that stay in the cache.

    Equal to torchaudio's MelSpectrogram (power 1 and 2, HTK, no norm) and MFCC(log_mels=True).

    Args:
        config: Sizes and floor.
        block_frames: Frames at a time; changes the speed, not the result.
    """

    def __init__(self, config: FeatureConfig, block_frames: int = BLOCK_FRAMES):
        self.config = config
        self.block_frames = block_frames
        self.window = torch.hann_window(config.n_fft, periodic=True)
        self.filterbank = mel_filterbank(config)
        self.dct = torchaudio.functional.create_dct(config.n_mfcc, config.n_mels, "ortho")
        self._constants: dict[torch.device, _Constants] = {}

    def silence(self) -> tuple[Tensor, Tensor]:
        """What one frame of digital silence gives: log_mel (n_mels,) and mfcc (n_mfcc,), float32."""
        log_mel = torch.full((self.config.n_mels,), math.log(self.config.log_floor))
        return log_mel, torch.full((self.config.n_mels,), math.log(MFCC_OFFSET)) @ self.dct

    @torch.no_grad()
    def __call__(self, wav: Tensor, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
        """Analyses one wav; frame t is centred on sample t * hop_length (reflect padding).

        A wav of fewer than n_fft // 2 + 1 samples, which cannot be reflected, is extended to that many by
        zeros at its end; the number of frames does not change by it.

        Args:
            wav: (samples,) at config.sample_rate, full scale 1.
            device: Where to compute; the wav's own by default.

        Returns:
            log_mel: (n_mels, frames) float32, ln of the magnitude mel spectrogram, at least ln(log_floor).
            mfcc: (n_mfcc, frames) float32, ortho DCT-II of ln(power mel + 1e-6).
            Both with frames = 1 + samples // hop_length; stored frame by frame, so `.T` is contiguous.

        Raises:
            InputError: the wav is empty or not one-dimensional.
        """
        require(wav.ndim == 1 and len(wav) > 0, "wav.shape", tuple(wav.shape), "(samples,), at least 1 sample")
        config, constants = self.config, self._on(torch.device(device) if device else wav.device)
        samples = wav.to(constants.window.device, torch.float32)
        frames = 1 + len(samples) // config.hop_length
        half = config.n_fft // 2
        samples = F.pad(samples, (0, max(0, half + 1 - len(samples))))
        padded = F.pad(samples[None], (half, half), mode="reflect")[0]
        framed = padded.unfold(0, config.n_fft, config.hop_length)[:frames]
        log_mel = padded.new_empty(frames, config.n_mels)
        mfcc = padded.new_empty(frames, config.n_mfcc)

        spectra = padded.new_empty(2, min(self.block_frames, frames), half + 1)
        for start in range(0, frames, self.block_frames):
            block = slice(start, start + self.block_frames)
            self._block(framed[block], constants, spectra, log_mel[block], mfcc[block])
        return log_mel.T, mfcc.T

    @torch.no_grad()
    def _block(
        self, framed: Tensor, constants: _Constants, spectra: Tensor, log_mel: Tensor, mfcc: Tensor
    ) -> None:
        frames, n_mels = log_mel.shape
        magnitude_and_power(torch.fft.rfft(framed * constants.window), *spectra[:, :frames])
        # One product for both spectra: rows are frames of the magnitude, then of the power.
        rows = spectra[:, :frames].reshape(2 * frames, -1)
        mels = rows.new_empty(2 * frames, n_mels)
        for first, last, low, high, weights in constants.bands:
            torch.mm(rows[:, low:high], weights, out=mels[:, first:last])
        torch.log(mels[:frames].clamp_(min=self.config.log_floor), out=log_mel)
        torch.mm(mels[frames:].add_(MFCC_OFFSET).log_(), constants.dct, out=mfcc)

    def _on(self, device: torch.device) -> _Constants:
        if device not in self._constants:
            bands = _band_groups(self.filterbank.to(device))
            self._constants[device] = _Constants(self.window.to(device), bands, self.dct.to(device))
        return self._constants[device]
