"""Log-mel and MFCC of one wav from one STFT."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torchaudio.functional
from torch import Tensor
from torch.nn import functional as F

from melodygan_core.config import FeatureConfig, require

# torchaudio.transforms.MFCC(log_mels=True) adds this before the log.
MFCC_OFFSET = 1e-6

# Number of spectra per block, which fit the cache of a core.
BLOCK_FRAMES = 256


class MelBands:
    """Mel bands of the magnitude and of the power of a spectrum, in one pass.

    The filterbank is sparse: each bin has weights in two bands only.

    Args:
        filterbank: (bins, n_mels) float32 on any device; the non-zero weights of a band are contiguous.
    """

    def __init__(self, filterbank: Tensor) -> None:
        self._filterbank = filterbank
        # First bin and last bin + 1 of each band, and the weights of all bands, concatenated.
        self._ranges = np.zeros((filterbank.shape[1], 2), np.int64)
        weights = []
        for band, column in enumerate(filterbank.T.cpu()):
            inside = column.nonzero().flatten().tolist()
            if inside:
                self._ranges[band] = inside[0], inside[-1] + 1
            weights.append(column[slice(*self._ranges[band])].numpy())
        self._weights = np.concatenate(weights)

    def __call__(self, spectrum: Tensor, magnitude: Tensor, power: Tensor) -> None:
        """Writes the mel bands of |spectrum| and of |spectrum|^2.

        Args:
            spectrum: (frames, bins) complex64, contiguous, on the device of the filterbank.
            magnitude: (frames, n_mels) float32, contiguous; output.
            power: (frames, n_mels) float32, contiguous; output.
        """
        if spectrum.device.type != "cpu":
            self._by_torch(spectrum, magnitude, power)
            return
        parts = torch.view_as_real(spectrum).flatten(1)
        _kernel()(*(x.numpy() for x in (parts, magnitude, power)), self._ranges, self._weights)

    def _by_torch(self, spectrum: Tensor, magnitude: Tensor, power: Tensor) -> None:
        """Computes the same by dense products, on any device."""
        square = torch.view_as_real(spectrum).square().sum(-1)
        torch.mm(square, self._filterbank, out=power)
        torch.mm(square.sqrt_(), self._filterbank, out=magnitude)


@cache
def _kernel() -> Any:
    # The import takes a second, and only features need it.
    import numba

    # With a signature, numba compiles here and not in the first of several threads that call it; the code is
    # cached beside this file or in the cache of the user. Sums are not vectorised: bands are too short.
    types = "void(float32[:,::1], float32[:,::1], float32[:,::1], int64[:,::1], float32[::1])"

    @numba.njit(types, nogil=True, fastmath={"contract", "nsz"}, cache=True)
    def kernel(parts: Any, magnitude: Any, power: Any, ranges: Any, weights: Any) -> None:
        frames, bins, bands = len(parts), parts.shape[1] // 2, len(ranges)
        squares, roots = np.zeros((4, bins), np.float32), np.zeros((4, bins), np.float32)
        sums = np.zeros((8, bands), np.float32)
        # Four frames at once give eight independent sums, whose additions do not wait for each other.
        for first in range(0, frames, 4):
            here = min(4, frames - first)
            for j in range(here):
                for k in range(bins):
                    re, im = parts[first + j, 2 * k], parts[first + j, 2 * k + 1]
                    square = re * re + im * im
                    squares[j, k] = square
                    roots[j, k] = np.sqrt(square)
            at = 0
            for band in range(bands):
                m0 = m1 = m2 = m3 = p0 = p1 = p2 = p3 = np.float32(0)
                for k in range(ranges[band, 0], ranges[band, 1]):
                    weight = weights[at]
                    at += 1
                    m0 += weight * roots[0, k]
                    m1 += weight * roots[1, k]
                    m2 += weight * roots[2, k]
                    m3 += weight * roots[3, k]
                    p0 += weight * squares[0, k]
                    p1 += weight * squares[1, k]
                    p2 += weight * squares[2, k]
                    p3 += weight * squares[3, k]
                for j, value in enumerate((m0, m1, m2, m3, p0, p1, p2, p3)):
                    sums[j, band] = value
            for j in range(here):
                magnitude[first + j] = sums[j]
                power[first + j] = sums[4 + j]

    return kernel


class _Constants(NamedTuple):
    window: Tensor
    bands: MelBands
    dct: Tensor


def mel_filterbank(config: FeatureConfig) -> Tensor:
    """Returns triangular mel bands, HTK scale, no normalisation, from 0 Hz to half the sample rate.

    Returns:
        Weights (n_fft // 2 + 1, n_mels) float32 of torchaudio's `melscale_fbanks`.
    """
    return torchaudio.functional.melscale_fbanks(
        config.n_fft // 2 + 1, 0.0, config.sample_rate / 2, config.n_mels, config.sample_rate, None, "htk"
    )


def check_spectrum_bytes(frames: int, config: FeatureConfig, what: str, gib: int = 2) -> None:
    """Checks that the complex spectrum of a sound fits the memory that one sound may take.

    A release chooses the STFT and its user the sound; together they could need more than a machine has.

    Args:
        frames: Of the sound.
        config: STFT.
        what: The sound, as the error names it.
        gib: Most memory of the spectrum in GiB. 20 minutes at 44.1 kHz, n_fft 4096 and hop_length 512 need 1.6.

    Raises:
        InputError: it needs more. The computation needs three to five times what the spectrum does.
    """
    frame_bytes = 8 * (config.n_fft // 2 + 1)
    most = (gib << 30) // frame_bytes
    stft = f"at sample_rate = {config.sample_rate}, n_fft = {config.n_fft}, hop_length = {config.hop_length}"
    length_s, most_s = (n * config.hop_length / config.sample_rate for n in (frames, most))
    require(frames <= most, f"length of {what} in seconds", round(length_s, 1), f"at most {most_s:.1f} {stft}")


class FeatureExtractor:
    """Log-mel and MFCC of one wav from one STFT, computed in blocks that fit the cache.

    Equal to torchaudio's MelSpectrogram (power 1 and 2, HTK, no norm) and MFCC(log_mels=True).

    Args:
        config: Feature config.
        block_frames: Frames per block; it changes the speed, not the result.
    """

    def __init__(self, config: FeatureConfig, block_frames: int = BLOCK_FRAMES):
        self.config = config
        self.block_frames = block_frames
        self.window = torch.hann_window(config.n_fft, periodic=True)
        self.filterbank = mel_filterbank(config)
        self.dct = torchaudio.functional.create_dct(config.n_mfcc, config.n_mels, "ortho")
        self._constants: dict[torch.device, _Constants] = {}

    def silence(self) -> tuple[Tensor, Tensor]:
        """Returns one frame of digital silence: log_mel (n_mels,) and mfcc (n_mfcc,), float32."""
        log_mel = torch.full((self.config.n_mels,), math.log(self.config.log_floor))
        return log_mel, torch.full((self.config.n_mels,), math.log(MFCC_OFFSET)) @ self.dct

    @torch.no_grad()
    def __call__(self, wav: Tensor, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
        """Returns log-mel and MFCC; frame t is centred on sample t * hop_length (reflect padding).

        A wav of fewer than n_fft // 2 + 1 samples cannot be reflected: zeros extend it to that length, and the
        number of frames stays the same.

        Args:
            wav: (samples,) at config.sample_rate, full scale 1.
            device: Device of the computation; the device of the wav by default.

        Returns:
            log_mel: (n_mels, frames) float32, ln of the magnitude mel spectrogram, at least ln(log_floor).
            mfcc: (n_mfcc, frames) float32, ortho DCT-II of ln(power mel + 1e-6).
            Both have frames = 1 + samples // hop_length and are frame-major in memory: `.T` is contiguous.

        Raises:
            InputError: the wav is empty or not one-dimensional.
        """
        require(wav.ndim == 1 and len(wav) > 0, "wav.shape", tuple(wav.shape), "(samples,), at least 1 sample")
        config, constants = self.config, self._on(torch.device(device) if device else wav.device)
        samples = wav.to(constants.window.device, torch.float32)
        frames = 1 + len(samples) // config.hop_length
        half = config.n_fft // 2
        samples = F.pad(samples, (0, max(0, half + 1 - len(samples))))
        # Reflect padding by copies; torch's padding takes three times as long.
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
