"""One frozen dataclass a stage, and ids that are hashes of them."""

from melodygan_core.config.data import (
    CatalogueConfig,
    DatasetConfig,
    DownloadConfig,
    FeatureConfig,
    SeparationConfig,
    feature_id,
)
from melodygan_core.config.models import (
    DenseAutoencoderConfig,
    DenseConfig,
    DenseGanConfig,
    OptimizerConfig,
    VocoderConfig,
)
from melodygan_core.config.temporal import TemporalAutoencoderConfig, TemporalConfig, TemporalGanConfig
from melodygan_core.config.use import AugmentConfig, EvaluationConfig, GenerationConfig, GriffinLimConfig
from melodygan_core.config.values import (
    FAMILIES,
    RIGHTS,
    SPLITS,
    STEMS,
    VERSIONS,
    VOCODERS,
    config_id,
    from_dict,
    require,
    to_dict,
    training_id,
)

__all__ = [
    "FAMILIES",
    "RIGHTS",
    "SPLITS",
    "STEMS",
    "VERSIONS",
    "VOCODERS",
    "AugmentConfig",
    "CatalogueConfig",
    "DatasetConfig",
    "DenseAutoencoderConfig",
    "DenseConfig",
    "DenseGanConfig",
    "DownloadConfig",
    "EvaluationConfig",
    "FeatureConfig",
    "GenerationConfig",
    "GriffinLimConfig",
    "OptimizerConfig",
    "SeparationConfig",
    "TemporalAutoencoderConfig",
    "TemporalConfig",
    "TemporalGanConfig",
    "VocoderConfig",
    "config_id",
    "feature_id",
    "from_dict",
    "require",
    "to_dict",
    "training_id",
]
