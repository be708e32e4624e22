"""Audio as arrays: read, write, resample, level. `wav` is float32 (channels, samples) in [-1, 1]."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from melodygan_core.errors import TrackError
from melodygan_core.storage.files import named_errors

Wav = NDArray[np.float32]

SILENCE_DB = -120.0
_SYSTEM_ERROR = 2  # libsndfile's SF_ERR_SYSTEM


def read_wav(path: Path) -> tuple[Wav, int]:
    """Decodes a file that libsndfile reads (wav, flac, ogg, mp3).

    Returns:
        wav (channels, samples) float32, and its sample rate in Hz.

    Raises:
        TrackError: it is not an audio file, or is damaged beyond use.
        FileNotFoundError: the file does not exist.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        samples, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise TrackError(f"{path.name} is not readable audio: {error}") from error
    return np.ascontiguousarray(samples.T, dtype=np.float32), int(sample_rate)


def write_wav(path: Path, wav: Wav, sample_rate: int, subtype: str | None = None) -> None:
    """Writes (channels, samples) or (samples,) to a file; the suffix decides the format.

    Args:
        path: A `.wav` or `.flac` file.
        wav: float32 in [-1, 1].
        sample_rate: In Hz.
        subtype: `PCM_16`, `PCM_24`, `FLOAT` (wav only); PCM_16 by default, which clips at full scale.
    """
    # Encoded in memory: on a full or broken disk libsndfile leaves a damaged FLAC, and reports no error.
    encoded = io.BytesIO()
    form = path.suffix.lstrip(".").upper()
    soundfile.write(encoded, np.atleast_2d(wav).T, sample_rate, subtype=subtype or "PCM_16", format=form)
    with named_errors(path):
        path.write_bytes(encoded.getbuffer())


@contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Raises the OSError behind an error of libsndfile inside the block, which writes a file: a full disk."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        # A second write gives the cause; the file is of no use any more. Of a FLAC, libsndfile says that a
        # decoder could not be initialised.
        with named_errors(path), path.open("ab") as file:
            file.write(bytes(1 << 20))
            os.fsync(file.fileno())
        if error.code != _SYSTEM_ERROR:
            raise
        raise OSError(errno.EIO, "the file cannot be written", str(path)) from error


def to_mono(wav: Wav) -> Wav:
    """Returns the mean of the channels: (channels, samples) -> (samples,)."""
    return wav[0] if wav.shape[0] == 1 else wav.mean(axis=0, dtype=np.float32)


def resample(wav: Wav, from_rate: int, to_rate: int) -> Wav:
    """Returns the wav at another rate in Hz, resampled by soxr (high quality) along the last axis."""
    if from_rate == to_rate:
        return wav
    return np.ascontiguousarray(soxr.resample(wav.T, from_rate, to_rate, quality="HQ").T, dtype=np.float32)


def peak_db(wav: Wav) -> float:
    """Returns the highest absolute sample in dB of full scale; SILENCE_DB for digital silence."""
    peak = float(np.abs(wav).max(initial=0.0))
    return max(SILENCE_DB, 20 * float(np.log10(peak))) if peak > 0 else SILENCE_DB


@lru_cache(maxsize=8)
def _meter(sample_rate: int) -> Any:
    import pyloudnorm

    return pyloudnorm.Meter(sample_rate)


def loudness_lufs(wav: Wav, sample_rate: int) -> float:
    """Returns the integrated loudness (ITU-R BS.1770-4) of (samples,) or (channels, samples).

    Shorter wavs are extended to 0.4 s by zeros.

    Returns:
        LUFS; SILENCE_DB if no block passes the gate.
    """
    channels = np.atleast_2d(wav)
    if channels.shape[-1] < 0.4 * sample_rate:
        channels = np.pad(channels, ((0, 0), (0, int(np.ceil(0.4 * sample_rate)) - channels.shape[-1])))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(_meter(sample_rate).integrated_loudness(channels.T.astype(np.float64)))
    return value if np.isfinite(value) else SILENCE_DB


def normalise_loudness(wav: Wav, sample_rate: int, target_lufs: float, ceiling_db: float = -1.0) -> Wav:
    """Returns the wav at a loudness, or as near to it as the peak ceiling allows; silence stays silent.

    Args:
        wav: (samples,) or (channels, samples), float32.
        sample_rate: In Hz.
        target_lufs: Integrated loudness (ITU-R BS.1770-4).
        ceiling_db: Highest peak in dB of full scale.
    """
    level = loudness_lufs(wav, sample_rate)
    if level <= SILENCE_DB:
        return wav
    gain_db = min(target_lufs - level, ceiling_db - peak_db(wav))
    return (wav * np.float32(10 ** (gain_db / 20))).astype(np.float32)


def matched_gains(
    loudness: Sequence[float], peaks_db: Sequence[float], target_lufs: float, ceiling_db: float = -1.0
) -> list[float]:
    """Gains in dB that bring several sounds to one loudness without a peak above the ceiling.

    Where one is limited by its peak, all are lowered alike. Silent ones get 0.

    Args:
        loudness: LUFS of each; SILENCE_DB for silence.
        peaks_db: Peak of each.
        target_lufs: Wanted loudness.
        ceiling_db: Highest peak.
    """
    heard = [level > SILENCE_DB for level in loudness]
    gains = [target_lufs - level if h else 0.0 for level, h in zip(loudness, heard, strict=True)]
    headroom_db = [
        ceiling_db - (peak + gain) for peak, gain, h in zip(peaks_db, gains, heard, strict=True) if h
    ]
    lower = min([0.0, *headroom_db])
    return [gain + lower if h else 0.0 for gain, h in zip(gains, heard, strict=True)]


def amplify(wav: Wav, gain_db: float) -> Wav:
    """A wav at another level."""
    return (wav * np.float32(10 ** (gain_db / 20))).astype(np.float32)
