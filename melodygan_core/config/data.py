"""Configs of the stages from sources to dataset."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from melodygan_core.config.base import ConfigModel, to_dict
from melodygan_core.config.messages import require
from melodygan_core.config.values import VERSIONS, config_id

# A day: no single wait is longer.
_DAY_S = 86_400
# Closer frames add nothing but cost; every sound of a release with such a config would take it.
_MAX_OVERLAP = 16
_MAX_FRAME_RATE = 2000

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
    """Log-mel and MFCC from one STFT."""

    sample_rate: int = Field(
        22_050, ge=8_000, le=96_000, description="Sample rate of the analysed mono wav, in Hz."
    )
    n_fft: int = Field(
        1024,
        ge=64,
        le=8192,
        multiple_of=2,
        description="STFT size, in samples; the Hann window has the same length.",
    )
    hop_length: int = Field(256, ge=1, le=8192, description="Samples between two frames.")
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
        return self

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def segment_s(self) -> float:
        """Duration of a segment, in seconds."""
        return self.segment_frames * self.hop_length / self.sample_rate

    @property
    def spectral_id(self) -> str:
        """Hash of the fields that shape a frame; the number of workers does not."""
        return config_id({k: v for k, v in to_dict(self).items() if k != "workers"})


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
