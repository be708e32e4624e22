"""Audio as arrays: read, write, resample, loudness. Fingerprints and plots are separate modules."""

from melodygan_core.audio.io import (
    SILENCE_DB,
    Wav,
    amplify,
    loudness_lufs,
    matched_gains,
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
    "amplify",
    "loudness_lufs",
    "matched_gains",
    "normalise_loudness",
    "peak_db",
    "read_wav",
    "resample",
    "system_errors",
    "to_mono",
    "write_wav",
]
