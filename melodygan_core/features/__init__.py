"""Log bands, log-mel and MFCC of each stem from one STFT, as one Parquet row per segment and stem."""

from melodygan_core.features.bands import (
    MAX_LOG,
    band_filterbank,
    interpolation,
    mel_filterbank,
    mels_of_spectrum,
    spectrum_of_mels,
)
from melodygan_core.features.segments import segment_loudness
from melodygan_core.features.spectral import FeatureExtractor, check_spectrum_bytes
from melodygan_core.features.table import VERSION, feature_id, footer, read, schema, values_of
from melodygan_core.features.tracks import extract

__all__ = [
    "MAX_LOG",
    "VERSION",
    "FeatureExtractor",
    "band_filterbank",
    "check_spectrum_bytes",
    "extract",
    "feature_id",
    "footer",
    "interpolation",
    "mel_filterbank",
    "mels_of_spectrum",
    "read",
    "schema",
    "segment_loudness",
    "spectrum_of_mels",
    "values_of",
]
