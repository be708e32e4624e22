"""The level of each segment of a stem, and whether it is usable for training."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyloudnorm
from numpy.typing import NDArray
from scipy.signal import sosfilt

from melodygan_core import audio
from melodygan_core.config import FeatureConfig
from melodygan_core.errors import TrackError

SILENT_PEAK_DB = -60.0
SILENT_LUFS = -60.0
# A loud master has one sample in a thousand at full scale, a clipped recording far more.
CLIPPED_LEVEL = 0.999
CLIPPED_FRACTION = 0.005


@lru_cache(maxsize=8)
def _k_weighting(sample_rate: int) -> NDArray[np.float64]:
    stages = pyloudnorm.Meter(sample_rate)._filters.values()
    return np.stack([np.concatenate([stage.b, stage.a]) for stage in stages])


def _gated_loudness(weighted: NDArray[np.float64], sample_rate: int, valid: int) -> NDArray[np.float64]:
    """Returns the loudness of K-weighted (rows, samples), of which the first `valid` samples count.

    The gating is that of BS.1770 as in pyloudnorm.
    """
    blocks = int(np.round((max(0.4, valid / sample_rate) - 0.4) / 0.1)) + 1
    edges = [[int(0.4 * (j * 0.25 + k) * sample_rate) for j in range(blocks)] for k in (0, 1)]
    energy = np.zeros((len(weighted), valid + 1))
    np.cumsum(np.square(weighted[:, :valid]), axis=1, out=energy[:, 1:])
    lower, upper = np.minimum(edges, valid)
    power = (energy[:, upper] - energy[:, lower]) / (0.4 * sample_rate)
    gate = np.full((len(power), 1), 10 ** ((-70.0 + 0.691) / 10))
    mean = _gated_mean(power, power >= gate)
    # The relative gate is 10 dB below the mean of the blocks that pass the absolute gate.
    mean = _gated_mean(power, (power > gate) & (power > 0.1 * mean))[:, 0]
    level = np.full(len(mean), audio.SILENCE_DB)
    np.log10(mean, out=level, where=mean > 0)
    return np.where(mean > 0, -0.691 + 10 * level, audio.SILENCE_DB)


def _gated_mean(power: NDArray[np.float64], gate: NDArray[np.bool_]) -> NDArray[np.float64]:
    return (power * gate).sum(axis=1, keepdims=True) / np.maximum(gate.sum(axis=1, keepdims=True), 1)


def segment_loudness(
    wav: NDArray[np.float32], sample_rate: int, segment_samples: int, segments: int
) -> NDArray[np.float64]:
    """Returns the integrated loudness of consecutive segments.

    The K-weighting filter runs once over the track. A segment is within 0.05 dB of `audio.loudness_lufs`, or
    within 0.6 dB after a segment that is 50 dB louder, because the filter carries its state over.

    Args:
        wav: (samples,), at most segments * segment_samples; the last segment may be partial.
        sample_rate: In Hz.
        segment_samples: Length of a segment in samples.
        segments: Number of segments.

    Returns:
        LUFS (segments,), audio.SILENCE_DB where no block passes the gate.
    """
    padded = np.zeros(segments * segment_samples)
    padded[: len(wav)] = sosfilt(_k_weighting(sample_rate), wav.astype(np.float64))
    rows = padded.reshape(segments, segment_samples)
    valid = len(wav) - (segments - 1) * segment_samples
    if valid >= segment_samples:
        return _gated_loudness(rows, sample_rate, segment_samples)
    full, last = rows[: len(wav) // segment_samples], rows[len(wav) // segment_samples :]
    return np.concatenate(
        [
            _gated_loudness(full, sample_rate, segment_samples),
            _gated_loudness(last, sample_rate, max(valid, 0)),
        ]
    )


class Sound(NamedTuple):
    """One stem at the rate of the features.

    Attributes:
        wav: (samples,) mean of the channels, finite.
        side: (samples,) half the difference of the channels; None for one channel, or for equal ones.
        segments: Number of segments, which hold all frames.
        clipped: (segments,) share of samples at full scale in any channel, before resampling.
        not_finite: (segments,) whether a sample was NaN or infinite (zero in `wav`).
    """

    wav: NDArray[np.float32]
    side: NDArray[np.float32] | None
    segments: int
    clipped: NDArray[np.float64]
    not_finite: NDArray[np.bool_]


def load(path: Path, config: FeatureConfig) -> Sound:
    """Reads one stem.

    Raises:
        TrackError: the file is not audio, or has no samples.
    """
    wav, rate = audio.read_wav(path)
    if wav.shape[1] == 0:
        raise TrackError(f"{path.name} has no samples")
    bad = np.flatnonzero(~np.isfinite(wav).all(axis=0))
    # Resampling and filtering would spread one bad sample over the track; its segment is marked instead.
    wav[:, bad] = 0.0
    # Resampling rounds off flat tops, so clipping is counted before it.
    full = np.flatnonzero((np.abs(wav) >= CLIPPED_LEVEL).any(axis=0))
    mono = audio.resample(audio.to_mono(wav), rate, config.sample_rate)
    side = None
    if config.channels == 2 and len(wav) == 2 and not np.array_equal(wav[0], wav[1]):
        side = audio.resample((wav[0] - wav[1]) / 2, rate, config.sample_rate)
    segments = -(-(1 + len(mono) // config.hop_length) // config.segment_frames)
    edges = np.arange(segments + 1) * config.segment_s * rate
    lengths = np.maximum(np.diff(np.minimum(edges, wav.shape[1])), 1)
    clipped, not_finite = (np.diff(np.searchsorted(positions, edges)) for positions in (full, bad))
    return Sound(mono, side, segments, clipped / lengths, not_finite > 0)


class Levels(NamedTuple):
    """Per segment, each (segments,): number of frames with audio, level, and the reason if it is not usable."""

    valid_frames: NDArray[np.int64]
    loudness_lufs: NDArray[np.float64]
    peak_db: NDArray[np.float64]
    reason: NDArray[np.str_]


def levels(sound: Sound, config: FeatureConfig) -> Levels:
    """Measures every segment; `reason` is empty or the first of: not finite, short, silent, clipped.

    Short means fewer than half of the frames. Silent means a peak below -60 dB or a loudness below -60 LUFS.
    Clipped means more than 0.5 % of the samples at or above 0.999 of full scale.
    """
    size = config.segment_frames * config.hop_length
    frames = 1 + len(sound.wav) // config.hop_length
    first_frame = np.arange(sound.segments) * config.segment_frames
    valid = np.minimum(config.segment_frames, frames - first_frame)
    loudness = segment_loudness(sound.wav, config.sample_rate, size, sound.segments)
    peak = np.array([audio.peak_db(sound.wav[i * size : (i + 1) * size]) for i in range(sound.segments)])
    short = valid < config.segment_frames / 2
    silent = (peak < SILENT_PEAK_DB) | (loudness < SILENT_LUFS)
    clipped = sound.clipped > CLIPPED_FRACTION
    reason = np.select(
        [sound.not_finite, short, silent, clipped], ["not finite", "short", "silent", "clipped"], ""
    )
    return Levels(valid, loudness, peak, reason)
