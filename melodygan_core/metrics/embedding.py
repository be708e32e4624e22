"""A fixed embedding of log-mel windows: level, spread, contrast and modulation spectrum; nothing is learned."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melodygan_core.config import require

Embeddings = NDArray[np.float64]

EMBEDDING = "log-mel-modulation-1"
BAND_GROUPS = 8
# Edges of the modulation bands in Hz: 12 half octaves.
MODULATION_HZ = tuple(0.5 * 2 ** (i / 2) for i in range(13))
MIN_FRAME_RATE = 60.0
MIN_WINDOW_S = 0.5

# The scales give each of the four kinds of dimension a similar share of the distance. They were chosen on 3 s
# windows of orchestral music and are constants: they never follow the sets that are compared. A fluctuation
# below the floor counts as none.
MEAN_SCALE, SPREAD_SCALE, CONTRAST_SCALE, MODULATION_SCALE = 1.5, 0.75, 0.4, 3.0
POWER_FLOOR = 1e-3


def embed(log_mel: ArrayLike, frame_rate: float) -> Embeddings:
    """Embeds each window of log-mel.

    Per group of neighbouring bands, the embedding holds the mean of the log-mel over time, the log of its
    standard deviation, the log of the mean step from band to band, and the log power of its fluctuations in
    12 modulation bands of half an octave from 0.5 to 32 Hz. The modulation spectrum separates music from its
    time average; the contrast between bands separates music from noise.

    The embedding cannot hear pitch, harmony, metre or anything longer than a window: each of its 8 groups
    averages about an octave. `evaluation.pitch` measures pitch. Sets that are compared need the same window
    length, number of mel bands and frame rate.

    Args:
        log_mel: (n, n_mels, frames), natural log of magnitudes; at least 16 bands and 0.5 s.
        frame_rate: Frames per second, at least 60.

    Returns:
        (n, 120): 8 means, 8 spreads, 8 contrasts, 8 groups x 12 modulation bands.

    Raises:
        InputError: wrong shape, too short, too low a frame rate, or values that are not finite.
    """
    values = np.asarray(log_mel)
    require(
        values.ndim == 3 and values.shape[1] >= 2 * BAND_GROUPS,
        "log_mel.shape",
        values.shape,
        f"(n, n_mels, frames) with at least {2 * BAND_GROUPS} bands",
    )
    require(frame_rate >= MIN_FRAME_RATE, "frame_rate", frame_rate, f"at least {MIN_FRAME_RATE:g} per second")
    fewest = int(np.ceil(MIN_WINDOW_S * frame_rate))
    require(values.shape[2] >= fewest, "frames", values.shape[2], f"at least {fewest} ({MIN_WINDOW_S} s)")
    require(bool(np.isfinite(values).all()), "log_mel", "not finite", "finite values")
    # One window at a time: the spectra of a whole set take gigabytes.
    return np.stack([_embed_one(window.astype(np.float64), frame_rate) for window in values])


def _embed_one(log_mel: NDArray[np.float64], frame_rate: float) -> Embeddings:
    """Embeds one window (n_mels, frames) -> (120,)."""
    frames = log_mel.shape[1]
    mean = log_mel.mean(axis=1)
    fluctuation = log_mel - mean[:, None]
    taper = np.hanning(frames + 1)[:frames]
    power = np.abs(np.fft.rfft(fluctuation * taper, axis=1)) ** 2 * 2 / (frames * (taper**2).sum())
    starts = np.linspace(0, len(log_mel), BAND_GROUPS, endpoint=False).round().astype(int)
    sizes = np.diff([*starts, len(log_mel)])
    # A step from one group to the next belongs to neither.
    steps = np.square(np.diff(mean, append=mean[-1]))
    steps[starts[1:] - 1] = 0.0
    means = np.add.reduceat(mean, starts) / sizes
    variances = np.add.reduceat(fluctuation.var(axis=1), starts) / sizes
    contrasts = np.add.reduceat(steps, starts) / (sizes - 1)
    modulations = np.add.reduceat(power @ modulation_bands(frames, frame_rate), starts) / sizes[:, None]
    return np.concatenate(
        [
            means / MEAN_SCALE,
            0.5 * np.log(variances + POWER_FLOOR) / SPREAD_SCALE,
            0.5 * np.log(contrasts + POWER_FLOOR) / CONTRAST_SCALE,
            np.log(modulations + POWER_FLOOR).ravel() / MODULATION_SCALE,
        ]
    )


def modulation_bands(frames: int, frame_rate: float) -> NDArray[np.float64]:
    """Returns (frames // 2 + 1, bands): the share of each FFT bin, taken as an interval, inside each band."""
    width = frame_rate / frames
    upper = (np.arange(frames // 2 + 1)[:, None] + 0.5) * width
    low, high = np.array(MODULATION_HZ[:-1]), np.array(MODULATION_HZ[1:])
    overlap = np.minimum(upper, high) - np.maximum(upper - width, low)
    return np.clip(overlap, 0.0, None) / width
