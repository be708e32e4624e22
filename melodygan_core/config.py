"""One frozen dataclass a stage, and ids that are hashes of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from melodygan_core.errors import InputError

T = TypeVar("T")

STEMS = ("vocals", "instrumental", "mix")
RIGHTS = ("own", "licensed", "open", "unknown")
SPLITS = ("train", "validation", "test")

# Raised when a stage makes something else of the same input and config: part of every id and version. They
# stand here, not beside the algorithms, so that the orchestrator can name them without loading torch.
VERSIONS = {
    "catalogue": "1",
    "download": "2",
    "separation": "1",
    "features": "1",
    "dataset": "2",
    "autoencoder": "1",
    "latents": "1",
    "gan": "1",
    "generation": "1",
    "evaluation": "1",
    "release": "1",
    "gallery": "1",
}


def to_dict(config: Any) -> dict[str, Any]:
    """Plain JSON types of a config dataclass (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """The inverse of `to_dict`: a config dataclass from plain JSON types, checked by its own rules.

    Raises:
        InputError: a name that the config does not have, or a value that it does not allow.
    """
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints), key=str)
    require(not unknown, f"a field of {cls.__name__}", unknown, ", ".join(hints))
    return cls(**{name: _typed(name, hints[name], value) for name, value in values.items()})


def _typed(name: str, hint: Any, value: Any) -> Any:
    # JSON has no tuples and may spell 1.0 as 1; anything else that is not of the field's type is a mistake.
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return from_dict(cast(type, hint), value)
    elif get_origin(hint) is tuple:
        require(isinstance(value, list | tuple), name, value, "a list")
        kinds = get_args(hint)
        kinds = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
        require(len(kinds) == len(value), name, value, f"{len(kinds)} values")
        return tuple(_typed(name, kind, v) for kind, v in zip(kinds, value, strict=True))
    elif hint is float and type(value) is int:
        return float(value)
    require(type(value) is hint, name, value, f"a value of type {hint.__name__}")
    return value


def training_id(config: Any) -> dict[str, Any]:
    """A training config as plain JSON without what shapes no result: where it runs, how often it saves."""
    values = to_dict(config)
    for name in ("device", "checkpoint_every_s"):
        del values["optimizer"][name]
    return values


def config_id(*parts: Any) -> str:
    """12 hexadecimal digits that change when any part does.

    Args:
        parts: config dataclasses, or JSON-serialisable values (code versions, data versions).
    """
    plain = [to_dict(p) if dataclasses.is_dataclass(p) else p for p in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def require(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raises InputError that names the value and what is allowed, unless `ok`."""
    if not ok:
        raise InputError(f"{name} is {value!r}; allowed: {allowed}")


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


@dataclass(frozen=True)
class OptimizerConfig:
    """One training run: how long, how fast, when to stop.

    Attributes:
        max_steps: Most optimizer updates.
        batch_size: Examples in one update.
        learning_rate: Peak of the schedule (linear warm-up, then cosine to a tenth).
        warmup_steps: Updates until the peak.
        weight_decay: Of AdamW; not on biases and norms.
        clip_norm: Gradients are scaled to at most this norm.
        eval_every: Updates between two validations.
        patience: Validations without a better one before it stops.
        checkpoint_every_s: Seconds between two resumable states on disk.
        seed: Of initialisation, shuffling and noise.
        device: `auto`, `cpu`, `cuda` or `mps`.
    """

    max_steps: int = 4000
    batch_size: int = 128
    learning_rate: float = 3e-4
    warmup_steps: int = 100
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    eval_every: int = 100
    patience: int = 10
    checkpoint_every_s: float = 30.0
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_size", "eval_every", "patience"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("learning_rate", "clip_norm"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        for name in ("warmup_steps", "weight_decay", "checkpoint_every_s"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 and more")


@dataclass(frozen=True)
class DenseAutoencoderConfig:
    """The seed's autoencoder: fully connected, over a segment's binned log-mel and MFCC.

    Attributes:
        stems: Which stems' rows are trained on.
        time_bins: A segment's frames are averaged in this many bins; 1 is the plain mean.
        hidden_sizes: Layer widths of the encoder; the last is the latent, the decoder mirrors them.
        dropout: On the inputs of hidden layers.
        random_shift: Train on segments that begin anywhere, not only where the table cuts.
        gain_db: Standard deviation of a random level added to each training segment, in dB.
        optimizer: See OptimizerConfig.
    """

    stems: tuple[str, ...] = ("mix",)
    time_bins: int = 32
    hidden_sizes: tuple[int, ...] = (4096, 2048, 1024, 512)
    dropout: float = 0.1
    random_shift: bool = True
    gain_db: float = 6.0
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(max_steps=1000, learning_rate=2e-4)
    )

    def __post_init__(self) -> None:
        require(len(self.stems) > 0 and set(self.stems) <= set(STEMS), "stems", self.stems, f"some of {STEMS}")
        require(self.time_bins >= 1, "time_bins", self.time_bins, "at least 1")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "0 to below 1")
        require(0 <= self.gain_db <= 40, "gain_db", self.gain_db, "0 to 40")
        require(
            1 <= len(self.hidden_sizes) <= 32 and min(self.hidden_sizes) >= 1,
            "hidden_sizes",
            self.hidden_sizes,
            "1 to 32 positive widths",
        )

    @property
    def latent_dim(self) -> int:
        """Width of the bottleneck."""
        return self.hidden_sizes[-1]


@dataclass(frozen=True)
class DenseGanConfig:
    """A GAN over standardised latents.

    Attributes:
        noise_dim: Of the generator's input.
        hidden_size: Width of generator and discriminator.
        layers: Hidden layers in each.
        loss: `hinge` or `non_saturating`.
        r1_gamma: Weight of the gradient penalty on real latents.
        r1_every: Updates between two penalties (lazy regularisation).
        ema_decay: Of the generator that is kept.
        condition: `none`, `stem` or `tag`.
        optimizer: See OptimizerConfig.
    """

    noise_dim: int = 128
    hidden_size: int = 512
    layers: int = 3
    loss: str = "hinge"
    r1_gamma: float = 1.0
    r1_every: int = 8
    ema_decay: float = 0.995
    condition: str = "none"
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            max_steps=6000, batch_size=256, learning_rate=2e-4, eval_every=200, patience=15, weight_decay=0.0
        )
    )

    def __post_init__(self) -> None:
        require(self.loss in ("hinge", "non_saturating"), "loss", self.loss, "hinge, non_saturating")
        require(self.condition in ("none", "stem", "tag"), "condition", self.condition, "none, stem, tag")
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "0 to below 1")
        for name in ("noise_dim", "hidden_size", "layers", "r1_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.layers <= 32, "layers", self.layers, "1 to 32")
        require(self.r1_gamma >= 0, "r1_gamma", self.r1_gamma, "0 and more")


@dataclass(frozen=True)
class GriffinLimConfig:
    """Phase reconstruction from mel magnitudes.

    Attributes:
        iterations: Of fast Griffin-Lim.
        momentum: 0 is the original algorithm, 0.99 the fast one.
    """

    iterations: int = 32
    momentum: float = 0.99

    def __post_init__(self) -> None:
        require(self.iterations >= 1, "iterations", self.iterations, "at least 1")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "0 to below 1")


@dataclass(frozen=True)
class GenerationConfig:
    """What to make from a trained family.

    Attributes:
        count: Samples.
        duration_s: Length of each in seconds.
        seed: Of the noise; sample k of a seed is the same for every count.
        truncation: Noise beyond this many standard deviations is drawn again; 0 for none.
        condition: A stem or a tag the GAN was conditioned on; empty for a random one.
        loudness_lufs: Samples are brought to this level, never above -1 dB peak.
        griffin_lim: See GriffinLimConfig.
    """

    count: int = 8
    duration_s: float = 10.0
    seed: int = 0
    truncation: float = 2.5
    condition: str = ""
    loudness_lufs: float = -18.0
    griffin_lim: GriffinLimConfig = field(default_factory=GriffinLimConfig)

    def __post_init__(self) -> None:
        require(1 <= self.count <= 10_000, "count", self.count, "1 to 10000")
        require(0 < self.duration_s <= 3600, "duration_s", self.duration_s, "above 0, at most 3600 seconds")
        require(
            self.truncation == 0 or self.truncation >= 0.5, "truncation", self.truncation, "0, or 0.5 and more"
        )
        require(-60 <= self.loudness_lufs <= -5, "loudness_lufs", self.loudness_lufs, "-60 to -5 LUFS")


@dataclass(frozen=True)
class EvaluationConfig:
    """How a generated set is compared with real tracks.

    Attributes:
        window_s: Length of one embedded window in seconds.
        max_windows: Most windows of one set, spread evenly over its tracks.
        neighbours: k of density and coverage.
        bootstrap: Resamplings (by track) behind each interval.
        generated_count: Pieces generated for the comparison.
        seed: Of the generated pieces and the resampling.
    """

    window_s: float = 3.0
    max_windows: int = 600
    neighbours: int = 5
    bootstrap: int = 200
    generated_count: int = 80
    seed: int = 1

    def __post_init__(self) -> None:
        require(0.5 <= self.window_s <= 60, "window_s", self.window_s, "0.5 to 60 seconds")
        require(self.bootstrap >= 20, "bootstrap", self.bootstrap, "at least 20")
        require(self.neighbours >= 1, "neighbours", self.neighbours, "at least 1")
        require(self.max_windows >= len(STEMS), "max_windows", self.max_windows, f"at least {len(STEMS)}")
        require(self.generated_count >= 2, "generated_count", self.generated_count, "at least 2")


@dataclass(frozen=True)
class DenseConfig:
    """The `dense` family: one config a stage."""

    autoencoder: DenseAutoencoderConfig = field(default_factory=DenseAutoencoderConfig)
    gan: DenseGanConfig = field(default_factory=DenseGanConfig)
