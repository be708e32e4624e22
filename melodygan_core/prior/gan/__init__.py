"""noise -> latents: the models, their losses and their training."""

from melodygan_core.prior.conditions import condition_index
from melodygan_core.prior.gan.collapse import Health, check_collapse
from melodygan_core.prior.gan.noise import piece_noise, truncated_noise
from melodygan_core.prior.gan.train import LatentGan, load, name_of, train

__all__ = [
    "Health",
    "LatentGan",
    "check_collapse",
    "condition_index",
    "load",
    "name_of",
    "piece_noise",
    "train",
    "truncated_noise",
]
