"""Log bands, log-mel and MFCC of one wav from one STFT."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torchaudio.functional
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from melodygan_core.audio.stereo import (
    channel_powers,
    mono_parameters,
    stereo_filterbank,
    stereo_parameters,
)
from melodygan_core.config import STEREO_BANDS, FeatureConfig, require
from melodygan_core.features.bands import log_filterbank, mel_filterbank

# torchaudio.transforms.MFCC(log_mels=True) adds this before the log.
MFCC_OFFSET = 1e-6

# Number of spectra per block, which fit the cache of a core.
BLOCK_FRAMES = 256


class SparseBands:
    """Bands of the magnitude and of the power of a spectrum, in one pass.

    A filterbank is sparse: each bin has weights in two bands only.

    Args:
        filterbank: (bins, n) float32 on any device; the non-zero weights of a band are contiguous.
        magnitudes_alone: (bins, m), a second filterbank of which the power is not wanted; none by default.
    """

    def __init__(self, filterbank: Tensor, magnitudes_alone: Tensor | None = None) -> None:
        second = filterbank[:, :0] if magnitudes_alone is None else magnitudes_alone
        self._filterbanks = filterbank, second
        self._sparse = [part for weights in self._filterbanks for part in _sparse(weights)]

    def __call__(self, spectrum: Tensor, magnitude: Tensor, power: Tensor, second: Tensor) -> None:
        """Writes the bands of |spectrum| and of |spectrum|^2.

        Args:
            spectrum: (frames, bins) complex64, contiguous, on the device of the filterbanks.
            magnitude: (frames, n) float32, contiguous; output.
            power: (frames, n) float32, contiguous; output.
            second: (frames, m) float32, contiguous: magnitudes by the second filterbank; output.
        """
        if spectrum.device.type != "cpu":
            self._by_torch(spectrum, magnitude, power, second)
            return
        parts = torch.view_as_real(spectrum).flatten(1)
        _kernel()(*(x.numpy() for x in (parts, magnitude, power, second)), *self._sparse)

    def _by_torch(self, spectrum: Tensor, magnitude: Tensor, power: Tensor, second: Tensor) -> None:
        """Computes the same by dense products, on any device."""
        square = torch.view_as_real(spectrum).square().sum(-1)
        torch.mm(square, self._filterbanks[0], out=power)
        torch.mm(square.sqrt_(), self._filterbanks[0], out=magnitude)
        torch.mm(square, self._filterbanks[1], out=second)


def _sparse(filterbank: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """First bin and last bin + 1 of each band (bands, 2), and the weights of all bands, concatenated."""
    ranges = np.zeros((filterbank.shape[1], 2), np.int64)
    weights = [np.empty(0, np.float32)]
    for band, column in enumerate(filterbank.T.cpu()):
        inside = column.nonzero().flatten().tolist()
        if inside:
            ranges[band] = inside[0], inside[-1] + 1
        weights.append(column[slice(*ranges[band])].numpy())
    return ranges, np.concatenate(weights)


@cache
def _kernel() -> Any:
    # The import takes a second, and only features need it.
    import numba

    # With a signature, numba compiles here and not in the first of several threads that call it; the code is
    # cached beside this file or in the cache of the user. Sums are not vectorised: bands are too short.
    rows = "float32[:,::1], float32[:,::1], float32[:,::1], float32[:,::1]"
    types = f"void({rows}, int64[:,::1], float32[::1], int64[:,::1], float32[::1])"

    @numba.njit(types, nogil=True, fastmath={"contract", "nsz"}, cache=True)
    def kernel(
        parts: Any,
        magnitude: Any,
        power: Any,
        second: Any,
        ranges: Any,
        weights: Any,
        second_ranges: Any,
        second_weights: Any,
    ) -> None:
        frames, bins, bands, others = len(parts), parts.shape[1] // 2, len(ranges), len(second_ranges)
        squares, roots = np.zeros((4, bins), np.float32), np.zeros((4, bins), np.float32)
        sums, other_sums = np.zeros((8, bands), np.float32), np.zeros((4, others), np.float32)
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
            at = 0
            for band in range(others):
                m0 = m1 = m2 = m3 = np.float32(0)
                for k in range(second_ranges[band, 0], second_ranges[band, 1]):
                    weight = second_weights[at]
                    at += 1
                    m0 += weight * roots[0, k]
                    m1 += weight * roots[1, k]
                    m2 += weight * roots[2, k]
                    m3 += weight * roots[3, k]
                for j, value in enumerate((m0, m1, m2, m3)):
                    other_sums[j, band] = value
            for j in range(here):
                magnitude[first + j] = sums[j]
                power[first + j] = sums[4 + j]
                second[first + j] = other_sums[j]

    return kernel


class _Constants(NamedTuple):
    window: Tensor
    bands: SparseBands
    dct: Tensor
    stereo: Tensor


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
    """Log bands, log-mel and MFCC of one wav from one STFT, computed in blocks that fit the cache.

    Log-mel and MFCC are equal to torchaudio's MelSpectrogram (power 1 and 2, HTK, no norm) and
    MFCC(log_mels=True).

    Args:
        config: Feature config.
        block_frames: Frames per block; it changes the speed, not the result.
    """

    def __init__(self, config: FeatureConfig, block_frames: int = BLOCK_FRAMES):
        self.config = config
        self.block_frames = block_frames
        self.window = torch.hann_window(config.n_fft, periodic=True)
        self.mel = mel_filterbank(config)
        # No second filterbank where the mels are the spectrum.
        self.log_bands = self.mel[:, :0] if config.bands == "mel" else log_filterbank(config)
        self.dct = torchaudio.functional.create_dct(config.n_mfcc, config.n_mels, "ortho")
        self._constants: dict[torch.device, _Constants] = {}

    def silence(self) -> dict[str, Tensor]:
        """Returns one frame (values,) of digital silence per column of the config, float32."""
        log_floor = math.log(self.config.log_floor)
        frame = {name: torch.full((width,), log_floor) for name, width in self.config.columns.items()}
        frame["mfcc"] = torch.full((self.config.n_mels,), math.log(MFCC_OFFSET)) @ self.dct
        if self.config.channels == 2:
            frame["stereo"] = mono_parameters(1, STEREO_BANDS)[0]
        return frame

    @torch.no_grad()
    def __call__(
        self, wav: Tensor, side: Tensor | None = None, device: torch.device | str | None = None
    ) -> dict[str, Tensor]:
        """Returns the columns of the config; frame t is centred on sample t * hop_length (reflect padding).

        A wav of fewer than n_fft // 2 + 1 samples cannot be reflected: zeros extend it to that length, and the
        number of frames stays the same.

        Args:
            wav: (samples,) at config.sample_rate, full scale 1: the mean of the channels.
            side: (samples,), half the difference of the channels; None for mono. Without two channels in the
                config it is not used.
            device: Device of the computation; the device of the wav by default.

        Returns:
            `log_mel` (n_mels, frames) float32, ln of the magnitude mel spectrogram, at least ln(log_floor).
            `mfcc` (n_mfcc, frames) float32, ortho DCT-II of ln(power mel + 1e-6).
            `log_bands` (n_bands, frames) float32, where the config has log bands: as `log_mel`.
            `stereo` (2 * STEREO_BANDS, frames) float32, where the config has two channels: see
            audio.stereo.stereo_parameters.
            All have frames = 1 + samples // hop_length and are frame-major in memory: `.T` is contiguous.

        Raises:
            InputError: the wav is empty or not one-dimensional.
        """
        require(wav.ndim == 1 and len(wav) > 0, "wav.shape", tuple(wav.shape), "(samples,), at least 1 sample")
        config, constants = self.config, self._on(torch.device(device) if device else wav.device)
        frames = 1 + len(wav) // config.hop_length
        framed = self._framed(wav, constants.window.device)[:frames]
        log_mel = framed.new_empty(frames, config.n_mels)
        power = framed.new_empty(frames, config.n_mels)
        log_bands = framed.new_empty(frames, self.log_bands.shape[1])
        side_framed, powers = None, framed.new_empty(0)
        if side is not None and config.channels == 2:
            require(side.shape == wav.shape, "side.shape", tuple(side.shape), str(tuple(wav.shape)))
            side_framed = self._framed(side, constants.window.device)[:frames]
            powers = framed.new_empty(frames, 3 * STEREO_BANDS)

        for start in range(0, frames, self.block_frames):
            here = slice(start, start + self.block_frames)
            spectrum = torch.fft.rfft(framed[here] * constants.window)
            constants.bands(spectrum, log_mel[here], power[here], log_bands[here])
            if side_framed is not None:
                side_spectrum = torch.fft.rfft(side_framed[here] * constants.window)
                powers[here] = channel_powers(spectrum, side_spectrum, constants.stereo)
        for magnitude in (log_mel, log_bands):
            magnitude.clamp_(min=config.log_floor).log_()
        mfcc = power.add_(MFCC_OFFSET).log_() @ constants.dct
        found = {"log_mel": log_mel.T, "mfcc": mfcc.T, "log_bands": log_bands.T}
        if config.channels == 2:
            mono = mono_parameters(frames, STEREO_BANDS).to(framed.device)
            found["stereo"] = (mono if side_framed is None else stereo_parameters(powers, self.mel.shape[0])).T
        return {name: found[name] for name in config.columns}

    def _framed(self, wav: Tensor, device: torch.device) -> Tensor:
        """(samples,) -> at least 1 + samples // hop_length overlapping windows (n, n_fft), a view."""
        config, samples, half = self.config, wav.to(device, torch.float32), self.config.n_fft // 2
        samples = F.pad(samples, (0, max(0, half + 1 - len(samples))))
        # Reflect padding by copies; torch's padding takes three times as long.
        padded = torch.cat([samples[1 : half + 1].flip(0), samples, samples[-half - 1 : -1].flip(0)])
        return padded.unfold(0, config.n_fft, config.hop_length)

    def _on(self, device: torch.device) -> _Constants:
        if device not in self._constants:
            bands = SparseBands(self.mel.to(device), self.log_bands.to(device))
            stereo = stereo_filterbank(len(self.mel), self.config.sample_rate, STEREO_BANDS)
            self._constants[device] = _Constants(
                self.window.to(device), bands, self.dct.to(device), stereo.to(device)
            )
        return self._constants[device]
