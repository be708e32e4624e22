"""Frozen configs of all stages, presets of them, and ids that are hashes of them."""

from melodygan_core.config.base import ConfigModel, from_dict, replace, to_dict
from melodygan_core.config.codec import DenseCodecConfig, RefinerConfig, TemporalCodecConfig
from melodygan_core.config.config import Config, PipelineConfig
from melodygan_core.config.data import (
    STEREO_BANDS,
    CatalogueConfig,
    DatasetConfig,
    DownloadConfig,
    FeatureConfig,
    SeparationConfig,
    feature_id,
    stored_features,
)
from melodygan_core.config.messages import require
from melodygan_core.config.prior import (
    DenseGanConfig,
    TemporalFlowConfig,
    TemporalGanConfig,
    TemporalPlanConfig,
)
from melodygan_core.config.requests import (
    AugmentConfig,
    AugmentSoundConfig,
    ContinueConfig,
    EditConfig,
    GenerateConfig,
    InpaintConfig,
    InterpolateConfig,
    LoopConfig,
    NearestConfig,
    ReconstructConfig,
    TransferConfig,
    VariationsConfig,
)
from melodygan_core.config.training import OptimizerConfig
from melodygan_core.config.use import EvaluationConfig, GenerationConfig, SamplingConfig
from melodygan_core.config.values import (
    RIGHTS,
    SPLITS,
    STEMS,
    VERSIONS,
    VOCODERS,
    config_id,
    training_id,
)
from melodygan_core.config.vocoder import FlowVocoderConfig, GriffinLimConfig, VocoderConfig

__all__ = [
    "RIGHTS",
    "SPLITS",
    "STEMS",
    "STEREO_BANDS",
    "VERSIONS",
    "VOCODERS",
    "AugmentConfig",
    "AugmentSoundConfig",
    "CatalogueConfig",
    "Config",
    "ConfigModel",
    "ContinueConfig",
    "DatasetConfig",
    "DenseCodecConfig",
    "DenseGanConfig",
    "DownloadConfig",
    "EditConfig",
    "EvaluationConfig",
    "FeatureConfig",
    "FlowVocoderConfig",
    "GenerateConfig",
    "GenerationConfig",
    "GriffinLimConfig",
    "InpaintConfig",
    "InterpolateConfig",
    "LoopConfig",
    "NearestConfig",
    "OptimizerConfig",
    "PipelineConfig",
    "ReconstructConfig",
    "RefinerConfig",
    "SamplingConfig",
    "SeparationConfig",
    "TemporalCodecConfig",
    "TemporalFlowConfig",
    "TemporalGanConfig",
    "TemporalPlanConfig",
    "TransferConfig",
    "VariationsConfig",
    "VocoderConfig",
    "config_id",
    "feature_id",
    "from_dict",
    "replace",
    "require",
    "stored_features",
    "to_dict",
    "training_id",
]
