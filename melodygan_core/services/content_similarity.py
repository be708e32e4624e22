"""How much of a sound's melody and rhythm another one has kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from melodygan_core.audio import to_mono
from melodygan_core.config import FeatureConfig
from melodygan_core.services.sound import Samples

_N_FFT = 4096
COMPRESSION = 1000.0
PAUSE_DB = -50.0


def content_similarity(content: Samples, wav: Samples, feature: FeatureConfig) -> dict[str, float]:
    """Chroma and onset correlation of two sounds of one length.

    The chroma is of log-compressed magnitudes, as in CLP features (Müller and Ewert 2011): without it, which
    octave is loud decides which pitch class is, and every equaliser counts as another melody. Unrelated music
    comes to about -0.1, the same music through Griffin-Lim of 80 mel bands to 0.9.

    Args:
        content: (channels, samples)
        wav: (channels, samples)
        feature: Rate and hop.

    Returns:
        `chroma_correlation`: mean over the frames in which the content sounds of the correlation of the twelve
            pitch classes.
        `onset_correlation`: correlation of the onset strengths over time.
    """
    import librosa

    common: dict[str, Any] = {"sr": feature.sample_rate, "hop_length": feature.hop_length}
    padded = [np.pad(w, (0, max(0, _N_FFT - len(w)))) for w in map(to_mono, (content, wav))]
    spectra = [np.abs(librosa.stft(w, n_fft=_N_FFT, hop_length=feature.hop_length)) for w in padded]
    chroma = [_chroma(s, common) for s in spectra]
    level = spectra[0].max(axis=0)
    heard = level > level.max(initial=0.0) * 10 ** (PAUSE_DB / 20)
    onsets = [librosa.onset.onset_strength(y=w, **common) for w in padded]
    by_frame = [correlation(a, b) for a, b in zip(chroma[0].T[heard], chroma[1].T[heard], strict=True)]
    return {
        "chroma_correlation": float(np.mean(by_frame)) if by_frame else 0.0,
        "onset_correlation": correlation(onsets[0], onsets[1]),
    }


def _chroma(magnitude: NDArray[np.float32], common: dict[str, Any]) -> NDArray[np.float32]:
    import librosa

    compressed = np.log1p(COMPRESSION * magnitude / max(float(magnitude.max(initial=0.0)), 1e-9))
    # One tuning for both: estimated for each, it would compare pitch classes of different bounds.
    return librosa.feature.chroma_stft(S=compressed, n_fft=_N_FFT, tuning=0.0, norm=None, **common)


def correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Pearson's, 0 where one of them does not change."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0
