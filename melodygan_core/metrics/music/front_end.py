"""What all measures of music start from: mono sound, onset strength and pitch-class profiles."""

from __future__ import annotations

from dataclasses import dataclass, field

import librosa
import numpy as np
from numpy.typing import NDArray

from melodygan_core import audio
from melodygan_core.config import require

RATE = 22_050
# Onset strength: 86 values per second.
ONSET_HOP = 256
ONSET_RATE = RATE / ONSET_HOP
# Pitch classes: windows of 0.37 s, in which neighbouring semitones are apart from 100 Hz on; 10.8 per second.
_N_FFT, CHROMA_HOP = 8192, 2048
CHROMA_RATE = RATE / CHROMA_HOP
_LOW_HZ, _HIGH_HZ = 60.0, 2500.0
_PEAK_RANGE_DB, _COMPRESSION = 40.0, 0.7
# Sound below this RMS is silence, and a frame this far below the loudest is a pause.
SILENT_RMS, _PAUSE_DB = 1e-3, -50.0

Samples = NDArray[np.floating]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class MusicSound:
    """One excerpt as the measures of music take it.

    Attributes:
        wav: (samples,) mono at 22,050 Hz.
        onset_strength: (frames,) spectral flux at `ONSET_RATE`, 0 or more; empty for silence.
        chroma: (12, frames) pitch-class profiles at `CHROMA_RATE`, each with the sum 1, C first; 0 in pauses.
    """

    wav: NDArray[np.float32]
    onset_strength: Array = field(repr=False)
    chroma: Array = field(repr=False)

    @property
    def duration_s(self) -> float:
        """In seconds."""
        return len(self.wav) / RATE

    @property
    def silent(self) -> bool:
        """Whether its RMS is below -60 dB of full scale."""
        return not self.onset_strength.size


def music_sound(wav: Samples, sample_rate: int) -> MusicSound:
    """Prepares an excerpt.

    Args:
        wav: (samples,) or (channels, samples) in [-1, 1].
        sample_rate: Hz, at least 8,000.

    Raises:
        InputError: another shape, shorter than 1 s, values that are not finite, or too low a sample rate.
    """
    require(wav.ndim in (1, 2), "wav.shape", wav.shape, "(samples,) or (channels, samples)")
    require(sample_rate >= 8_000, "sample_rate", sample_rate, "at least 8000 Hz")
    require(wav.shape[-1] >= sample_rate, "samples", wav.shape[-1], f"at least {sample_rate} (1 s)")
    require(bool(np.isfinite(wav).all()), "wav", "not finite", "finite values")
    mono = audio.to_mono(np.atleast_2d(np.asarray(wav, np.float32)))
    mono = audio.resample(mono, sample_rate, RATE)
    if float(np.sqrt(np.mean(np.square(mono, dtype=np.float64)))) < SILENT_RMS:
        return MusicSound(mono, np.empty(0), np.zeros((12, 0)))
    return MusicSound(mono, _onset_strength(mono), _chroma(mono))


def _onset_strength(wav: NDArray[np.float32]) -> Array:
    # Mel bands in dB, so that a quiet part has its onsets, too; a floor of 80 dB keeps noise out.
    strength = librosa.onset.onset_strength(y=wav, sr=RATE, hop_length=ONSET_HOP, n_fft=1024)
    return np.asarray(strength, np.float64)


def _chroma(wav: NDArray[np.float32]) -> Array:
    """Pitch-class profiles of spectral peaks (after HPCP, Gomez 2006); noise between them is left out."""
    magnitude = np.abs(librosa.stft(wav, n_fft=_N_FFT, hop_length=CHROMA_HOP)).astype(np.float64)
    first, last = (round(hz * _N_FFT / RATE) for hz in (_LOW_HZ, _HIGH_HZ))
    left, middle, right = (magnitude[first + k : last + k] for k in (-1, 0, 1))
    loudest = middle.max(axis=0)
    peak = (middle > left) & (middle >= right) & (middle > loudest * 10 ** (-_PEAK_RANGE_DB / 20))
    peak &= loudest > max(loudest.max(), 1e-9) * 10 ** (_PAUSE_DB / 20)
    bins, frames = np.nonzero(peak)
    a, b, c = (np.log(np.maximum(m[bins, frames], 1e-9)) for m in (left, middle, right))
    # The vertex of a parabola through the logarithms: a peak's frequency within a few cents.
    offset = 0.5 * (a - c) / np.minimum(a - 2 * b + c, -1e-9)
    frequency_hz = (first + bins + offset) * RATE / _N_FFT
    # A = 9. Each peak is shared by the two nearest pitch classes.
    position = (12 * np.log2(frequency_hz / 440.0) + 9) % 12
    # Compressed magnitudes: a loud bass does not hide the chord.
    weight = middle[bins, frames] ** _COMPRESSION
    lower, share = np.floor(position).astype(int), position % 1
    chroma = np.zeros((12, magnitude.shape[1]))
    np.add.at(chroma, (lower % 12, frames), weight * (1 - share))
    np.add.at(chroma, ((lower + 1) % 12, frames), weight * share)
    total = chroma.sum(axis=0)
    return np.divide(chroma, total, out=np.zeros_like(chroma), where=total > 0)
