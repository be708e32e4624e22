"""Configs from sources to dataset."""

from __future__ import annotations

from dataclasses import dataclass

from melodygan_core.config.values import VERSIONS, config_id, require, to_dict


@dataclass(frozen=True)
class CatalogueConfig:
    """How sources are expanded into tracks.

    Attributes:
        max_items: Most tracks taken from one playlist, channel or feed, newest first.
        allowed_roots: Folders under which `path:` sources may lie; none means the folder of sources.yaml.
        allow_private: Reach loopback and private addresses (the demo's own server needs it).
        timeout_s: Longest time to expand one source, in seconds.
    """

    max_items: int = 200
    allowed_roots: tuple[str, ...] = ()
    allow_private: bool = False
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        require(1 <= self.max_items <= 100_000, "max_items", self.max_items, "1 to 100000")
        require(1 <= self.timeout_s <= 86_400, "timeout_s", self.timeout_s, "1 to 86400")


@dataclass(frozen=True)
class DownloadConfig:
    """Limits and manners of the download of one track.

    Attributes:
        sample_rate: Of the raw wav, in Hz.
        min_duration_s: Shorter tracks are refused, in seconds.
        max_duration_s: Longer tracks are refused, in seconds.
        max_bytes: Most bytes that one download may take.
        timeout_s: Longest time for one attempt, in seconds.
        attempts: How often a transient error is tried before it is reported.
        pause_s: Wait between two downloads of one worker, in seconds; politeness.
        workers: Downloads at the same time.
        allow_private: Reach loopback and private addresses (the demo's own server needs it).
    """

    sample_rate: int = 44_100
    min_duration_s: float = 1.0
    max_duration_s: float = 3600.0
    max_bytes: int = 2_000_000_000
    timeout_s: float = 900.0
    attempts: int = 3
    pause_s: float = 1.0
    workers: int = 2
    allow_private: bool = False

    def __post_init__(self) -> None:
        require(8_000 <= self.sample_rate <= 192_000, "sample_rate", self.sample_rate, "8000 to 192000 Hz")
        require(
            0 < self.min_duration_s < self.max_duration_s,
            "min_duration_s",
            self.min_duration_s,
            f"above 0 and below max_duration_s = {self.max_duration_s}",
        )
        require(self.max_duration_s <= 86_400, "max_duration_s", self.max_duration_s, "at most 86400")
        require(0 < self.max_bytes <= 1 << 50, "max_bytes", self.max_bytes, "1 to 2^50")
        require(1 <= self.timeout_s <= 86_400, "timeout_s", self.timeout_s, "1 to 86400")
        require(0 <= self.pause_s <= 86_400, "pause_s", self.pause_s, "0 to 86400")
        require(1 <= self.attempts <= 20, "attempts", self.attempts, "1 to 20")
        require(1 <= self.workers <= 64, "workers", self.workers, "1 to 64")


@dataclass(frozen=True)
class SeparationConfig:
    """Which separation network splits a mix, and how it is run.

    Attributes:
        model: `centre` (built in, a baseline) or any model file that audio-separator knows.
        model_dir: Folder where audio-separator keeps (and downloads) models; not part of the id.
        device: `auto`, `cpu`, `cuda` or `mps`; not part of the id.
        parameters: Architecture parameters handed to audio-separator, as (name, value) pairs.
    """

    model: str = "UVR-MDX-NET-Inst_HQ_3.onnx"
    model_dir: str = ""
    device: str = "auto"
    parameters: tuple[tuple[str, float], ...] = ()

    @property
    def model_id(self) -> str:
        """Folder name of everything made by this model: its name and a hash of what shapes the result."""
        name = "".join(c if c.isalnum() else "-" for c in self.model.rsplit(".", 1)[0]).strip("-")[:40]
        return f"{name}-{config_id(self.model, to_dict(self)['parameters'], VERSIONS['separation'])[:6]}"


@dataclass(frozen=True)
class FeatureConfig:
    """Log-mel and MFCC from one STFT.

    Attributes:
        sample_rate: Of the mono wav that is analysed, in Hz.
        n_fft: STFT size in samples; the Hann window has the same length.
        hop_length: Samples between frames.
        n_mels: Mel bands (HTK scale, no normalisation).
        n_mfcc: Cepstral coefficients.
        segment_frames: Frames in one row of the table.
        log_floor: Smallest magnitude before the natural log.
        workers: Processes that extract tracks at the same time; not part of the id.
    """

    sample_rate: int = 22_050
    n_fft: int = 1024
    hop_length: int = 256
    n_mels: int = 80
    n_mfcc: int = 20
    segment_frames: int = 128
    log_floor: float = 1e-5
    workers: int = 1

    def __post_init__(self) -> None:
        require(64 <= self.n_fft <= 65536 and self.n_fft % 2 == 0, "n_fft", self.n_fft, "even, 64 to 65536")
        require(1 <= self.n_mels <= 1024, "n_mels", self.n_mels, "1 to 1024")
        require(0 < self.hop_length <= self.n_fft, "hop_length", self.hop_length, f"1 to n_fft = {self.n_fft}")
        require(1 <= self.n_mfcc <= self.n_mels, "n_mfcc", self.n_mfcc, f"1 to n_mels = {self.n_mels}")
        require(8 <= self.segment_frames <= 65_536, "segment_frames", self.segment_frames, "8 to 65536")
        require(self.sample_rate <= 192_000, "sample_rate", self.sample_rate, "at most 192000 Hz")
        for name in ("sample_rate", "log_floor", "workers"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length

    @property
    def segment_s(self) -> float:
        """Length of one segment in seconds."""
        return self.segment_frames * self.hop_length / self.sample_rate

    @property
    def spectral_id(self) -> str:
        """Hash of what shapes a frame (worker counts do not)."""
        return config_id({k: v for k, v in to_dict(self).items() if k != "workers"})


def feature_id(config: FeatureConfig, separation: SeparationConfig) -> str:
    """Names everything extracted by this config, from these stems, by this version of the code."""
    return config_id(config.spectral_id, separation.model_id, VERSIONS["features"])


@dataclass(frozen=True)
class DatasetConfig:
    """What of the features becomes training data.

    Attributes:
        validation_fraction: Of the groups of tracks; selects checkpoints.
        test_fraction: Of the groups of tracks; reported, and the reference of the evaluation.
        min_groups: Fewest groups of tracks in validation and in test.
        train_on_unknown: Also take tracks whose rights are `unknown`.
        near_duplicates: Of tracks that sound nearly the same take one; false finds equal files only.
        shard_tracks: Most tracks packed into one Arrow shard.
    """

    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    min_groups: int = 2
    train_on_unknown: bool = False
    near_duplicates: bool = True
    shard_tracks: int = 64

    def __post_init__(self) -> None:
        for name in ("validation_fraction", "test_fraction"):
            require(0 < getattr(self, name) < 0.5, name, getattr(self, name), "above 0, below 0.5")
        require(self.min_groups >= 2, "min_groups", self.min_groups, "at least 2")
        require(self.shard_tracks >= 1, "shard_tracks", self.shard_tracks, "at least 1")
