"""noise -> latents: models over a codec's latents, and their training."""

from melodygan_core.prior.base import Health, LatentSpace, Prior, PriorKind, PriorTask, condition_index
from melodygan_core.prior.train import check_collapse, from_config, load, name_of, train

__all__ = [
    "Health",
    "LatentSpace",
    "Prior",
    "PriorKind",
    "PriorTask",
    "check_collapse",
    "condition_index",
    "from_config",
    "load",
    "name_of",
    "train",
]
