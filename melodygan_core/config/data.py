"""Configs of the stages from sources to dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from melodygan_core.config.base import ConfigModel, from_dict, to_dict
from melodygan_core.config.messages import require
from melodygan_core.config.values import VERSIONS, config_id

# A day: no single wait is longer.
_DAY_S = 86_400
# Closer frames add nothing but cost; every sound of a release with such a config would take it.
_MAX_OVERLAP = 16
_MAX_FRAME_RATE = 2000

# Below it a band would hold rumble alone.
_LOWEST_BAND_HZ = 20.0

Bands = Literal["log", "mel"]
# Bands of the level difference and the correlation of the channels: as many as in MPEG-4 Parametric Stereo.
STEREO_BANDS = 20
SeparationDevice = Literal["auto", "cpu", "cuda", "mps"]
Folder = Annotated[str, Field(max_length=4096)]
Parameter = tuple[Annotated[str, Field(min_length=1, max_length=100)], Annotated[float, Field(ge=-1e9, le=1e9)]]


class CatalogueConfig(ConfigModel):
    """How sources are expanded into tracks."""

    max_items: int = Field(
        200,
        ge=1,
        le=100_000,
        description="Most tracks taken from one playlist, channel or feed, newest first.",
    )
    allowed_roots: tuple[Folder, ...] = Field(
        (),
        max_length=1000,
        description="Folders that `path:` sources may lie in; none means the folder of sources.yaml.",
    )
    allow_private: bool = Field(False, description="Connect to loopback and private addresses, too.")
    timeout_s: float = Field(
        120.0, ge=1, le=_DAY_S, description="Longest time to expand one source, in seconds."
    )


class DownloadConfig(ConfigModel):
    """Limits of a track's download."""

    sample_rate: int = Field(44_100, ge=8_000, le=96_000, description="Sample rate of the raw wav, in Hz.")
    min_duration_s: float = Field(
        1.0, gt=0, le=_DAY_S, description="Duration below which a track is refused, in seconds."
    )
    max_duration_s: float = Field(
        3600.0, gt=0, le=_DAY_S, description="Duration above which a track is refused, in seconds."
    )
    max_bytes: int = Field(2_000_000_000, ge=1, le=1 << 40, description="Most bytes of one download.")
    timeout_s: float = Field(900.0, ge=1, le=_DAY_S, description="Longest time for one attempt, in seconds.")
    attempts: int = Field(3, ge=1, le=20, description="Attempts before a transient error is reported.")
    pause_s: float = Field(
        1.0, ge=0, le=_DAY_S, description="Pause between two downloads of one worker, in seconds."
    )
    workers: int = Field(2, ge=1, le=64, description="Downloads at the same time.")
    allow_private: bool = Field(False, description="Connect to loopback and private addresses, too.")

    @model_validator(mode="after")
    def _durations_in_order(self) -> DownloadConfig:
        low, high = self.min_duration_s, self.max_duration_s
        require(low < high, "min_duration_s", low, f"above 0 and below max_duration_s = {high:g}")
        return self


class SeparationConfig(ConfigModel):
    """The separation model that splits a mix into stems, and how it runs."""

    model: str = Field(
        "UVR-MDX-NET-Inst_HQ_3.onnx",
        min_length=1,
        max_length=255,
        description="`centre` (built in, a baseline) or a model file that audio-separator knows.",
    )
    model_dir: Folder = Field(
        "", description="Folder that audio-separator downloads models to; empty for a cache of the user's."
    )
    device: SeparationDevice = Field("auto", description="Device that the model runs on.")
    parameters: tuple[Parameter, ...] = Field(
        (), max_length=64, description="Parameters of the architecture for audio-separator, as [name, value]."
    )

    @property
    def model_id(self) -> str:
        """Folder name of the model's results: its name and a hash of what shapes the result."""
        name = "".join(c if c.isalnum() else "-" for c in self.model.rsplit(".", 1)[0]).strip("-")[:40]
        return f"{name}-{config_id(self.model, to_dict(self)['parameters'], VERSIONS['separation'])[:6]}"


class FeatureConfig(ConfigModel):
    """Log bands, log-mel and MFCC from one STFT."""

    sample_rate: int = Field(44_100, ge=8_000, le=96_000, description="Sample rate of the analysed wav, in Hz.")
    n_fft: int = Field(
        4096,
        ge=64,
        le=8192,
        multiple_of=2,
        description="STFT size, in samples; the Hann window has the same length.",
    )
    hop_length: int = Field(512, ge=1, le=8192, description="Samples between two frames.")
    bands: Bands = Field(
        "log",
        description="Bands of the temporal codec and of the vocoders: `log`, which keep pitch, or the mels.",
    )
    bands_per_octave: int = Field(
        24, ge=1, le=120, description="Log bands per octave below `bands_up_to_hz`, at least a bin apart."
    )
    bands_up_to_hz: float = Field(
        1400.0, ge=1, le=48_000, description="Frequency above which log bands are spaced evenly in mel, in Hz."
    )
    upper_bands: int = Field(
        72, ge=1, le=1024, description="Log bands above `bands_up_to_hz`, at least a bin apart."
    )
    channels: Literal[1, 2] = Field(
        2,
        description="Channels of the sound that is made: 1, or 2 by level difference and correlation per band.",
    )
    n_mels: int = Field(80, ge=1, le=1024, description="Mel bands (HTK scale, no normalisation).")
    n_mfcc: int = Field(20, ge=1, le=1024, description="Cepstral coefficients.")
    segment_frames: int = Field(128, ge=8, le=16_384, description="Frames per row of the feature table.")
    log_floor: float = Field(
        1e-5, ge=1e-12, le=1, description="Magnitude below which values are clamped before the natural log."
    )
    workers: int = Field(
        1, ge=1, le=256, description="Processes that extract tracks at the same time; not part of the id."
    )

    @model_validator(mode="after")
    def _sizes_fit(self) -> FeatureConfig:
        shortest = max(self.n_fft // _MAX_OVERLAP, -(-self.sample_rate // _MAX_FRAME_RATE))
        span = f"{shortest} to {self.n_fft} for sample_rate = {self.sample_rate} and n_fft = {self.n_fft}"
        require(shortest <= self.hop_length <= self.n_fft, "hop_length", self.hop_length, span)
        require(self.n_mfcc <= self.n_mels, "n_mfcc", self.n_mfcc, f"1 to n_mels = {self.n_mels}")
        if self.bands == "log":
            self._check_log_bands()
        return self

    def _check_log_bands(self) -> None:
        low, high = self._first_band_hz, self.sample_rate / 2 - self.bin_hz
        span = f"{low:.0f} to {high:.0f} for sample_rate = {self.sample_rate} and n_fft = {self.n_fft}"
        require(low <= self.bands_up_to_hz <= high, "bands_up_to_hz", self.bands_up_to_hz, span)
        lowest, highest = _mel(self._lower_bands_hz[-1]), _mel(self.sample_rate / 2)
        # The lowest of the upper bands are the nearest to each other.
        most = int((highest - lowest) / (_mel(self._lower_bands_hz[-1] + self.bin_hz) - lowest))
        span = f"1 to {most} for sample_rate = {self.sample_rate} and n_fft = {self.n_fft}, or bands be mel"
        require(self.upper_bands <= most, "upper_bands", self.upper_bands, span)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def bin_hz(self) -> float:
        """Distance of two bins of the STFT, in Hz."""
        return self.sample_rate / self.n_fft

    @property
    def _first_band_hz(self) -> float:
        return max(1, math.ceil(_LOWEST_BAND_HZ / self.bin_hz)) * self.bin_hz

    @property
    def _lower_bands_hz(self) -> list[float]:
        centres, ratio = [self._first_band_hz], 2 ** (1 / self.bands_per_octave)
        while (following := max(centres[-1] + self.bin_hz, centres[-1] * ratio)) <= self.bands_up_to_hz:
            centres.append(following)
        return centres

    @property
    def log_band_centres_hz(self) -> tuple[float, ...]:
        """Centre frequencies of the log bands, in Hz; the last is half the sample rate.

        Up to `bands_up_to_hz` they are `1 / bands_per_octave` octaves or one bin of the STFT apart, whichever
        is more: no band is narrower than a bin, and where all bins are bands, nothing of their pitch is lost.
        Above, they are evenly spaced in mel.
        """
        lower = self._lower_bands_hz
        first, last = _mel(lower[-1]), _mel(self.sample_rate / 2)
        step = (last - first) / self.upper_bands
        return (*lower, *(_hz(first + step * k) for k in range(1, self.upper_bands)), self.sample_rate / 2)

    @property
    def n_bands(self) -> int:
        """Number of bands of the spectrum: of the log bands, or of the mels where these are taken."""
        return self.n_mels if self.bands == "mel" else len(self._lower_bands_hz) + self.upper_bands

    @property
    def n_stereo(self) -> int:
        """Stereo parameters of a frame; 0 for one channel."""
        return 2 * STEREO_BANDS if self.channels == 2 else 0

    @property
    def spectrum(self) -> str:
        """Name of the column that the temporal codec and the vocoders take."""
        return "log_mel" if self.bands == "mel" else "log_bands"

    @property
    def columns(self) -> dict[str, int]:
        """Values per frame of each column of features, by name, in the order of the tables."""
        columns = {"log_mel": self.n_mels, "mfcc": self.n_mfcc}
        if self.bands == "log":
            columns["log_bands"] = self.n_bands
        if self.n_stereo:
            columns["stereo"] = self.n_stereo
        return columns

    @property
    def segment_s(self) -> float:
        """Duration of a segment, in seconds."""
        return self.segment_frames * self.hop_length / self.sample_rate

    @property
    def spectral_id(self) -> str:
        """Hash of the fields that shape a frame; the number of workers does not.

        Without log bands, the fields that shape these are left out, and so is one channel: ids are those of
        version 0.1.
        """
        ignored = {"workers"} if self.bands == "log" else {"workers", *_LOG_BAND_FIELDS}
        ignored |= {"channels"} if self.channels == 1 else set()
        return config_id({k: v for k, v in to_dict(self).items() if k not in ignored})


_LOG_BAND_FIELDS = ("bands", "bands_per_octave", "bands_up_to_hz", "upper_bands")


def _mel(frequency_hz: float) -> float:
    return 2595.0 * math.log10(1.0 + frequency_hz / 700.0)


def _hz(mel: float) -> float:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def stored_features(values: Mapping[str, Any]) -> FeatureConfig:
    """The feature config of a dataset or checkpoint, from what `to_dict` made of it.

    Version 0.1 had mel bands and mono alone, and its configs have no fields for these.

    Raises:
        InputError: a field that the config does not have, or a value that it does not allow.
    """
    return from_dict(
        FeatureConfig, {"bands": "mel", "channels": 1, **values} if isinstance(values, Mapping) else values
    )


def feature_id(config: FeatureConfig, separation: SeparationConfig) -> str:
    """Id of the features of these stems by this config and this version of the code."""
    return config_id(config.spectral_id, separation.model_id, VERSIONS["features"])


class DatasetConfig(ConfigModel):
    """Which features become training data."""

    validation_fraction: float = Field(
        0.15, gt=0, lt=0.5, description="Fraction of track groups in validation, which selects checkpoints."
    )
    test_fraction: float = Field(
        0.15,
        gt=0,
        lt=0.5,
        description="Fraction of track groups in test, which the evaluation compares with.",
    )
    min_groups: int = Field(2, ge=2, le=10_000, description="Fewest track groups in validation, and in test.")
    train_on_unknown: bool = Field(False, description="Train on tracks whose rights are `unknown`, too.")
    near_duplicates: bool = Field(
        True,
        description="Keep one of the tracks that sound nearly the same; false drops identical files only.",
    )
    shard_tracks: int = Field(64, ge=1, le=10_000, description="Most tracks per Arrow shard.")
