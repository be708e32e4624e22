"""Log-mel and MFCC of one wav from one STFT; the maths alone."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torchaudio.functional
from torch import Tensor
from torch.nn import functional as F

from melodygan_core.config import FeatureConfig, require
from melodygan_core.features.mels import MelBands

# torchaudio.transforms.MFCC(log_mels=True) adds this before its log.
MFCC_OFFSET = 1e-6

# Spectra at once, so that they stay in a core's cache.
BLOCK_FRAMES = 256


class _Constants(NamedTuple):
    window: Tensor
    bands: MelBands
    dct: Tensor


def mel_filterbank(config: FeatureConfig) -> Tensor:
    """Triangular mel bands, HTK scale, no normalisation, from 0 Hz to half the sample rate.

    Returns:
        Weights (n_fft // 2 + 1, n_mels) float32, as torchaudio's `melscale_fbanks` makes them.
    """
    return torchaudio.functional.melscale_fbanks(
        config.n_fft // 2 + 1, 0.0, config.sample_rate / 2, config.n_mels, config.sample_rate, None, "htk"
    )


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
        # Reflected at both ends; torch's own padding takes three times as long as a copy.
        padded = torch.cat([samples[1 : half + 1].flip(0), samples, samples[-half - 1 : -1].flip(0)])
        framed = padded.unfold(0, config.n_fft, config.hop_length)[:frames]
        log_mel = padded.new_empty(frames, config.n_mels)
        power = padded.new_empty(frames, config.n_mels)

        for start in range(0, frames, self.block_frames):
            here = slice(start, start + self.block_frames)
            spectrum = torch.fft.rfft(framed[here] * constants.window)
            constants.bands(spectrum, log_mel[here], power[here])
        log_mel.clamp_(min=config.log_floor).log_()
        mfcc = power.add_(MFCC_OFFSET).log_() @ constants.dct
        return log_mel.T, mfcc.T

    def _on(self, device: torch.device) -> _Constants:
        if device not in self._constants:
            bands = MelBands(self.filterbank.to(device))
            self._constants[device] = _Constants(self.window.to(device), bands, self.dct.to(device))
        return self._constants[device]
