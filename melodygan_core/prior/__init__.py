"""noise -> latents: models over a codec's latents, and their training."""

from melodygan_core.prior.base import Health, LatentSpace, Prior, PriorKind, PriorTask, condition_index
from melodygan_core.prior.editing import (
    DEFAULT_SAMPLING,
    EditingPrior,
    Parts,
    Sampling,
    editing,
    require_defaults,
    sample,
)
from melodygan_core.prior.train import check_collapse, from_config, load, name_of, train

__all__ = [
    "DEFAULT_SAMPLING",
    "EditingPrior",
    "Health",
    "LatentSpace",
    "Parts",
    "Prior",
    "PriorKind",
    "PriorTask",
    "Sampling",
    "check_collapse",
    "condition_index",
    "editing",
    "from_config",
    "load",
    "name_of",
    "require_defaults",
    "sample",
    "train",
]
