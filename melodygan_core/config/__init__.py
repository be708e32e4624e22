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
)
from melodygan_core.config.use import (
    EvaluationConfig,
    GenerationConfig,
    GriffinLimConfig,
)
from melodygan_core.config.values import (
    RIGHTS,
    SPLITS,
    STEMS,
    VERSIONS,
    config_id,
    from_dict,
    require,
    to_dict,
    training_id,
)

__all__ = [
    "RIGHTS",
    "SPLITS",
    "STEMS",
    "VERSIONS",
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
    "config_id",
    "feature_id",
    "from_dict",
    "require",
    "to_dict",
    "training_id",
]
