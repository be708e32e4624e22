"""noise -> latents: the models, their losses and their training."""

from melodygan_core.gan.conditions import condition_index
from melodygan_core.gan.health import Health, examine
from melodygan_core.gan.noise import piece_noise, truncated_noise
from melodygan_core.gan.train import LatentGan, load, name_of, train

__all__ = [
    "Health",
    "LatentGan",
    "condition_index",
    "examine",
    "load",
    "name_of",
    "piece_noise",
    "train",
    "truncated_noise",
]
