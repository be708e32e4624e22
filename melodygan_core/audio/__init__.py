"""Sound as arrays: read, write, resample, loudness; fingerprints and plots are modules of their own."""

from melodygan_core.audio.io import (
    SILENCE_DB,
    Wav,
    loudness_lufs,
    normalise_loudness,
    peak_db,
    read_wav,
    resample,
    system_errors,
    to_mono,
    write_wav,
)

__all__ = [
    "SILENCE_DB",
    "Wav",
    "loudness_lufs",
    "normalise_loudness",
    "peak_db",
    "read_wav",
    "resample",
    "system_errors",
    "to_mono",
    "write_wav",
]
