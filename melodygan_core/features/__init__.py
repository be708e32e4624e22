"""Log-mel and MFCC of each stem from one STFT, as one Parquet row per segment and stem."""

from melodygan_core.features.segments import segment_loudness
from melodygan_core.features.spectral import FeatureExtractor, check_spectrum_bytes, mel_filterbank
from melodygan_core.features.table import VERSION, feature_id, footer, log_mel_of, mfcc_of, read, schema
from melodygan_core.features.tracks import extract

__all__ = [
    "VERSION",
    "FeatureExtractor",
    "check_spectrum_bytes",
    "extract",
    "feature_id",
    "footer",
    "log_mel_of",
    "mel_filterbank",
    "mfcc_of",
    "read",
    "schema",
    "segment_loudness",
]
