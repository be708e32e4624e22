"""The presets: every stage's config, sized for one kind of machine, and a file of settings over one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from melodygan_core.config import (
    CatalogueConfig,
    DatasetConfig,
    DenseAutoencoderConfig,
    DenseConfig,
    DenseGanConfig,
    DownloadConfig,
    EvaluationConfig,
    FeatureConfig,
    GenerationConfig,
    OptimizerConfig,
    SeparationConfig,
    TemporalAutoencoderConfig,
    TemporalConfig,
    TemporalGanConfig,
    VocoderConfig,
    from_dict,
    plain_yaml,
    require,
    to_dict,
)
from melodygan_core.errors import InputError


@dataclass(frozen=True)
class Preset:
    """Every stage's config, sized for one kind of machine."""

    catalogue: CatalogueConfig = field(default_factory=CatalogueConfig)
    download: DownloadConfig = field(default_factory=DownloadConfig)
    separation: SeparationConfig = field(default_factory=SeparationConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)
    dense: DenseConfig = field(default_factory=DenseConfig)
    temporal: TemporalConfig = field(default_factory=TemporalConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


_LARGE_FEATURES = FeatureConfig(sample_rate=44_100, n_fft=2048, hop_length=512, n_mels=128)

PRESETS: dict[str, Preset] = {
    # Two CPU cores, four minutes, offline: the built-in separation model and narrow layers.
    "demo": Preset(
        catalogue=CatalogueConfig(allow_private=True),
        download=DownloadConfig(allow_private=True, pause_s=0.0),
        separation=SeparationConfig(model="centre"),
        dense=DenseConfig(
            autoencoder=DenseAutoencoderConfig(
                hidden_sizes=(1024, 512, 256, 64),
                optimizer=OptimizerConfig(max_steps=600, batch_size=64, eval_every=50),
            ),
            gan=DenseGanConfig(
                noise_dim=64,
                hidden_size=256,
                optimizer=OptimizerConfig(
                    max_steps=1500,
                    batch_size=128,
                    learning_rate=2e-4,
                    eval_every=100,
                    patience=8,
                    weight_decay=0.0,
                ),
            ),
        ),
        vocoder=VocoderConfig(
            width=96,
            blocks=2,
            adv_weight=0.0,
            feature_matching_weight=0.0,
            optimizer=OptimizerConfig(
                max_steps=160, batch_size=8, learning_rate=2e-3, warmup_steps=20, eval_every=40
            ),
        ),
        temporal=TemporalConfig(
            autoencoder=TemporalAutoencoderConfig(
                width=192,
                blocks=2,
                latent_dim=32,
                disc_channels=8,
                optimizer=OptimizerConfig(
                    max_steps=400, batch_size=16, learning_rate=1.5e-3, warmup_steps=20, eval_every=50
                ),
            ),
            gan=TemporalGanConfig(
                patch_tokens=16,
                style_dim=32,
                global_dim=32,
                width=96,
                optimizer=OptimizerConfig(
                    max_steps=1200,
                    batch_size=16,
                    learning_rate=3e-4,
                    warmup_steps=20,
                    eval_every=100,
                    patience=8,
                    weight_decay=0.0,
                ),
            ),
        ),
        generation=GenerationConfig(count=6, duration_s=8.0),
        evaluation=EvaluationConfig(windows_s=(3.0,), generated_count=12, bootstrap=100),
    ),
    # Two CPU cores, an hour or two of music.
    "small": Preset(),
    # One GPU, full band.
    "base": Preset(
        features=_LARGE_FEATURES,
        vocoder=VocoderConfig(
            width=256,
            blocks=4,
            disc_channels=32,
            optimizer=OptimizerConfig(
                max_steps=15_000, batch_size=32, learning_rate=5e-4, eval_every=1000, weight_decay=1e-2
            ),
        ),
        temporal=TemporalConfig(
            autoencoder=TemporalAutoencoderConfig(
                width=768,
                blocks=6,
                disc_channels=32,
                optimizer=OptimizerConfig(
                    max_steps=15_000, batch_size=128, learning_rate=5e-4, eval_every=1000
                ),
            ),
            gan=TemporalGanConfig(
                width=320,
                optimizer=OptimizerConfig(
                    max_steps=40_000,
                    batch_size=64,
                    learning_rate=1e-4,
                    eval_every=1000,
                    patience=15,
                    weight_decay=0.0,
                ),
            ),
        ),
        dense=DenseConfig(
            autoencoder=DenseAutoencoderConfig(optimizer=OptimizerConfig(max_steps=20_000, batch_size=512)),
        ),
        evaluation=EvaluationConfig(generated_count=100, max_windows=2000),
    ),
    # One GPU, hours.
    "large": Preset(
        features=_LARGE_FEATURES,
        vocoder=VocoderConfig(
            width=384,
            blocks=6,
            disc_channels=32,
            optimizer=OptimizerConfig(
                max_steps=200_000, batch_size=32, learning_rate=3e-4, eval_every=5000, weight_decay=1e-2
            ),
        ),
        temporal=TemporalConfig(
            autoencoder=TemporalAutoencoderConfig(
                width=1024,
                blocks=8,
                disc_channels=48,
                optimizer=OptimizerConfig(
                    max_steps=100_000, batch_size=128, learning_rate=3e-4, eval_every=2000
                ),
            ),
            gan=TemporalGanConfig(
                patch_tokens=128,
                width=512,
                optimizer=OptimizerConfig(
                    max_steps=300_000,
                    batch_size=64,
                    learning_rate=1e-4,
                    eval_every=5000,
                    patience=20,
                    weight_decay=0.0,
                ),
            ),
        ),
        dense=DenseConfig(
            autoencoder=DenseAutoencoderConfig(
                hidden_sizes=(8192, 4096, 2048, 1024),
                optimizer=OptimizerConfig(max_steps=100_000, batch_size=1024, eval_every=500),
            ),
            gan=DenseGanConfig(
                noise_dim=256,
                hidden_size=1024,
                layers=4,
                optimizer=OptimizerConfig(
                    max_steps=50_000,
                    batch_size=1024,
                    learning_rate=2e-4,
                    eval_every=500,
                    patience=20,
                    weight_decay=0.0,
                ),
            ),
        ),
        evaluation=EvaluationConfig(generated_count=200, max_windows=4000),
    ),
}


def configured(name: str, file: Path | None) -> Preset:
    """A preset with the settings of a YAML file over it, such as `download: {max_duration_s: 600}`.

    Raises:
        InputError: no such preset or file, not YAML, or a setting that does not exist or is not allowed.
    """
    base = preset(name)
    if file is None:
        return base
    require(file.is_file(), "config", str(file), "an existing YAML file")
    values, _ = plain_yaml.parse(file.name, plain_yaml.read_text(file), typed=True)
    values = {} if values is None else values
    require(isinstance(values, dict), f"the content of {file}", values, "a mapping of stages to settings")
    try:
        return from_dict(Preset, _merged(to_dict(base), values))
    except InputError as error:
        raise InputError(f"{file.name}: {error}") from error


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        k: _merged(base[k], v) for k, v in over.items() if isinstance(base.get(k), dict) and isinstance(v, dict)
    }
    return {**base, **over, **both}


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        InputError: no such preset.
    """
    require(name in PRESETS, "preset", name, ", ".join(PRESETS))
    return PRESETS[name]
