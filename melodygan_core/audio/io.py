"""Sound as arrays: read, write, resample, level. `wav` is float32 (channels, samples) in [-1, 1]."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from melodygan_core.errors import TrackError

Wav = NDArray[np.float32]

SILENCE_DB = -120.0
_SYSTEM_ERROR = 2  # libsndfile's SF_ERR_SYSTEM


def read_wav(path: Path) -> tuple[Wav, int]:
    """Decodes a file that libsndfile knows (wav, flac, ogg, mp3).

    Returns:
        wav (channels, samples) float32, and its sample rate in Hz.

    Raises:
        TrackError: not a sound file, or truncated beyond use.
        FileNotFoundError: no such file.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        samples, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise TrackError(f"{path.name} is not readable sound: {error}") from error
    return np.ascontiguousarray(samples.T, dtype=np.float32), int(sample_rate)


def write_wav(path: Path, wav: Wav, sample_rate: int, subtype: str | None = None) -> None:
    """Encodes (channels, samples) or (samples,); the format follows the suffix.

    Args:
        path: Where to; `.wav` or `.flac`.
        wav: float32 in [-1, 1].
        sample_rate: In Hz.
        subtype: `PCM_16`, `PCM_24`, `FLOAT` (wav only); PCM_16 by default, which clips at full scale.
    """
    with system_errors(path):
        soundfile.write(path, np.atleast_2d(wav).T, sample_rate, subtype=subtype or "PCM_16")


@contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Around writing by libsndfile, which says "System error" of a full disk: raises the OSError it was."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        if error.code != _SYSTEM_ERROR:
            raise
        # Asked once more, the system says which; the file is of no use any more.
        with path.open("ab") as file:
            file.write(bytes(1 << 20))
            os.fsync(file.fileno())
        raise OSError(errno.EIO, "it could not be written", str(path)) from error


def to_mono(wav: Wav) -> Wav:
    """The mean of the channels: (channels, samples) -> (samples,)."""
    return wav[0] if wav.shape[0] == 1 else wav.mean(axis=0, dtype=np.float32)


def resample(wav: Wav, from_rate: int, to_rate: int) -> Wav:
    """Band-limited resampling (soxr, high quality) along the last axis; rates in Hz."""
    if from_rate == to_rate:
        return wav
    return np.ascontiguousarray(soxr.resample(wav.T, from_rate, to_rate, quality="HQ").T, dtype=np.float32)


def peak_db(wav: Wav) -> float:
    """Highest absolute sample in dB of full scale; SILENCE_DB for digital silence."""
    peak = float(np.abs(wav).max(initial=0.0))
    return max(SILENCE_DB, 20 * float(np.log10(peak))) if peak > 0 else SILENCE_DB


@lru_cache(maxsize=8)
def _meter(sample_rate: int) -> Any:
    import pyloudnorm

    return pyloudnorm.Meter(sample_rate)


def loudness_lufs(wav: Wav, sample_rate: int) -> float:
    """Integrated loudness (ITU-R BS.1770-4) of (samples,) or (channels, samples), at least 0.4 s.

    Returns:
        LUFS; SILENCE_DB where the gate leaves nothing.
    """
    channels = np.atleast_2d(wav)
    if channels.shape[-1] < 0.4 * sample_rate:
        channels = np.pad(channels, ((0, 0), (0, int(np.ceil(0.4 * sample_rate)) - channels.shape[-1])))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(_meter(sample_rate).integrated_loudness(channels.T.astype(np.float64)))
    return value if np.isfinite(value) else SILENCE_DB


def normalise_loudness(wav: Wav, sample_rate: int, target_lufs: float, ceiling_db: float = -1.0) -> Wav:
    """Brings a wav to a loudness, or as near as the peak ceiling allows; silence stays silent."""
    level = loudness_lufs(wav, sample_rate)
    if level <= SILENCE_DB:
        return wav
    gain_db = min(target_lufs - level, ceiling_db - peak_db(wav))
    return (wav * np.float32(10 ** (gain_db / 20))).astype(np.float32)
