"""noise -> latents: models over a codec's latents, and their training."""

from melodygan_core.piece_files import condition_index
from melodygan_core.prior.base import (
    Health,
    LatentSpace,
    Prior,
    PriorKind,
    PriorTask,
    StartablePriorTask,
)
from melodygan_core.prior.editing import (
    DEFAULT_SAMPLING,
    EditingPrior,
    Guide,
    Parts,
    Sampling,
    editing,
    require_defaults,
    sample,
)
from melodygan_core.prior.train import check_collapse, check_start, from_config, load, name_of, train

__all__ = [
    "DEFAULT_SAMPLING",
    "EditingPrior",
    "Guide",
    "Health",
    "LatentSpace",
    "Parts",
    "Prior",
    "PriorKind",
    "PriorTask",
    "Sampling",
    "StartablePriorTask",
    "check_collapse",
    "check_start",
    "condition_index",
    "editing",
    "from_config",
    "load",
    "name_of",
    "require_defaults",
    "sample",
    "train",
]
