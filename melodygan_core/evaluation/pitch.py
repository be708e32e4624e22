"""What the embedding cannot hear: whether pitch and partials of a reconstruction are those of its original."""

from __future__ import annotations

from collections.abc import Iterable

import librosa
import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import require

# Two octaves each, in Hz: bass, most melodies and chords, overtones.
BANDS_HZ = ((40, 160), (160, 640), (640, 2560))
BINS_PER_OCTAVE = 36
# The longest filter of the transform, at 40 Hz, is 1.3 s.
MIN_DURATION_S = 1.5

_F_MIN_HZ, _OCTAVES = 40.0, 6
_HOP_LENGTH = 512
_N_FFT = 2048
# A frame of a band this far below the loudest of all bands is a pause, or leakage from another band.
_PAUSE_DB = -40.0
# Partials: peaks of the original's spectrum within this range of the loudest peak of their frame.
_PARTIAL_RANGE_DB = 40.0
# A partial that is missing counts as this far below the loudest of its frame, not as minus infinity.
_MISSING_DB = -60.0
_FLOOR = 1e-5

Samples = NDArray[np.floating]


def cqt_correlation(wav: Samples, reference: Samples, sample_rate: int) -> dict[str, float]:
    """Returns the correlation of constant-Q magnitudes per frame, averaged over time, for three bands.

    The transform has 36 bins per octave, three per semitone. A band's spectrum is correlated over its 72 bins
    with that of the same frame of the reference (Pearson), so that the level does not matter. Frames in which
    the reference has no energy in that band, down to 40 dB below its loudest, are left out.

    Args:
        wav: (samples,) sound that is measured.
        reference: (samples,) its original. The longer one is cut.
        sample_rate: Hz, at least 5,461, so that the transform stays below the Nyquist frequency.

    Returns:
        `pitch/40-160`, `pitch/160-640`, `pitch/640-2560` in [-1, 1]: 1 for the original, about 0 for noise. A
        frame in which only `wav` is silent counts 0. A band in which the reference is silent throughout is
        left out.

    Raises:
        InputError: shorter than 1.5 s, not finite, not (samples,), or too low a sample rate.
    """
    wav, reference = _pair(wav, reference, sample_rate)
    magnitudes = [_cqt(w, sample_rate) for w in (wav, reference)]
    size = 2 * BINS_PER_OCTAVE
    loudest = max(np.square(magnitudes[1][k : k + size]).sum(axis=0).max() for k in (0, size, 2 * size))
    figures = {}
    for k, (low, high) in enumerate(BANDS_HZ):
        made, true = (m[k * size : (k + 1) * size] for m in magnitudes)
        level = np.square(true).sum(axis=0)
        audible = level > max(loudest * 10 ** (_PAUSE_DB / 10), _FLOOR**2)
        if audible.any():
            correlation = _correlation(made[:, audible], true[:, audible])
            figures[f"pitch/{low}-{high}"] = float(correlation.mean())
    return figures


def partials_error_db(wav: Samples, reference: Samples, sample_rate: int) -> float | None:
    """Returns the mean absolute level error of the reference's partials in dB, overall level included.

    Partials are the peaks over frequency of the STFT (n_fft 2048), within 40 dB of their frame's loudest peak.
    A reconstruction that fills the gaps between partials is not punished; one that loses or moves them is.

    Args:
        wav: (samples,) sound that is measured.
        reference: (samples,) its original. The longer one is cut.
        sample_rate: Hz.

    Returns:
        dB, 0 for the original; None if the reference has no partials, being silent.

    Raises:
        InputError: as for `cqt_correlation`.
    """
    wav, reference = _pair(wav, reference, sample_rate)
    made, true = (
        np.abs(librosa.stft(np.asarray(w, np.float32), n_fft=_N_FFT, hop_length=_HOP_LENGTH))
        for w in (wav, reference)
    )
    middle = true[1:-1]
    peak = (middle > true[:-2]) & (middle >= true[2:]) & (middle > _FLOOR)
    peak &= middle > true.max(axis=0) * 10 ** (-_PARTIAL_RANGE_DB / 20)
    if not peak.any():
        return None
    lowest = np.broadcast_to(true.max(axis=0) * 10 ** (_MISSING_DB / 20), middle.shape)[peak]
    return float(np.abs(20 * np.log10(np.maximum(made[1:-1][peak], lowest) / middle[peak])).mean())


def pitch_figures(pairs: Iterable[tuple[Samples, Samples]], sample_rate: int) -> dict[str, float]:
    """Returns the mean of `cqt_correlation` and `partials_error_db` over originals and their reconstructions.

    Args:
        pairs: (original, reconstruction), each (samples,); taken one at a time.
        sample_rate: Hz.

    Returns:
        `pitch/40-160`, `pitch/160-640`, `pitch/640-2560`, `pitch/partials_error_db` and `pitch/pairs`, the
        number of pairs. Each mean is over the pairs whose original sounds in that band; without one it is
        left out.

    Raises:
        InputError: no pairs, or a pair that cannot be compared.
    """
    values: dict[str, list[float]] = {}
    count = 0
    for original, reconstruction in pairs:
        count += 1
        found: dict[str, float | None] = {
            **cqt_correlation(reconstruction, original, sample_rate),
            "pitch/partials_error_db": partials_error_db(reconstruction, original, sample_rate),
        }
        for name, value in found.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    require(count > 0, "pairs", count, "at least one original and its reconstruction")
    return {name: float(np.mean(v)) for name, v in values.items()} | {"pitch/pairs": float(count)}


def _cqt(wav: NDArray[np.float32], sample_rate: int) -> NDArray[np.floating]:
    """(samples,) -> magnitudes (216, frames)."""
    transform = librosa.cqt(
        wav,
        sr=sample_rate,
        hop_length=_HOP_LENGTH,
        fmin=_F_MIN_HZ,
        n_bins=_OCTAVES * BINS_PER_OCTAVE,
        bins_per_octave=BINS_PER_OCTAVE,
    )
    return np.abs(transform)


def _correlation(made: NDArray[np.floating], true: NDArray[np.floating]) -> NDArray[np.floating]:
    """Pearson correlation over bins of (bins, frames) -> (frames,); 0 where a spectrum is constant."""
    first, second = (m - m.mean(axis=0) for m in (made, true))
    scale = np.sqrt(np.square(first).sum(axis=0) * np.square(second).sum(axis=0))
    return np.divide((first * second).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > _FLOOR**2)


def _pair(
    wav: Samples, reference: Samples, sample_rate: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    fewest = round(MIN_DURATION_S * sample_rate)
    lowest_rate = 2 * _F_MIN_HZ * 2**_OCTAVES * 16 / 15
    require(sample_rate >= lowest_rate, "sample_rate", sample_rate, f"at least {lowest_rate:.0f} Hz")
    for name, sound in (("wav", wav), ("reference", reference)):
        require(sound.ndim == 1, f"{name}.shape", sound.shape, "(samples,)")
        require(len(sound) >= fewest, f"{name} samples", len(sound), f"at least {fewest} ({MIN_DURATION_S} s)")
        require(bool(np.isfinite(sound).all()), name, "not finite", "finite values")
    shared = min(len(wav), len(reference))
    return np.asarray(wav[:shared], np.float32), np.asarray(reference[:shared], np.float32)
