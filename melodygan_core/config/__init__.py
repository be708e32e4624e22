"""Frozen configs of all stages, presets of them, and ids that are hashes of them."""

from melodygan_core.config.base import ConfigModel, from_dict, replace, to_dict
from melodygan_core.config.codec import DenseCodecConfig, TemporalCodecConfig
from melodygan_core.config.config import Config, PipelineConfig
from melodygan_core.config.data import (
    CatalogueConfig,
    DatasetConfig,
    DownloadConfig,
    FeatureConfig,
    SeparationConfig,
    feature_id,
)
from melodygan_core.config.messages import require
from melodygan_core.config.prior import DenseGanConfig, TemporalGanConfig
from melodygan_core.config.training import OptimizerConfig
from melodygan_core.config.use import (
    AugmentConfig,
    EvaluationConfig,
    GenerationConfig,
    InterpolateConfig,
    ReconstructConfig,
    TransferConfig,
)
from melodygan_core.config.values import (
    RIGHTS,
    SPLITS,
    STEMS,
    VERSIONS,
    VOCODERS,
    config_id,
    training_id,
)
from melodygan_core.config.vocoder import GriffinLimConfig, VocoderConfig

__all__ = [
    "RIGHTS",
    "SPLITS",
    "STEMS",
    "VERSIONS",
    "VOCODERS",
    "AugmentConfig",
    "CatalogueConfig",
    "Config",
    "ConfigModel",
    "DatasetConfig",
    "DenseCodecConfig",
    "DenseGanConfig",
    "DownloadConfig",
    "EvaluationConfig",
    "FeatureConfig",
    "GenerationConfig",
    "GriffinLimConfig",
    "InterpolateConfig",
    "OptimizerConfig",
    "PipelineConfig",
    "ReconstructConfig",
    "SeparationConfig",
    "TemporalCodecConfig",
    "TemporalGanConfig",
    "TransferConfig",
    "VocoderConfig",
    "config_id",
    "feature_id",
    "from_dict",
    "replace",
    "require",
    "to_dict",
    "training_id",
]
