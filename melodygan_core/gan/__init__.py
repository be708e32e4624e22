"""noise -> latents: the models, their losses and their training."""

from melodygan_core.gan.health import Health, examine
from melodygan_core.gan.train import LatentGan, load, train

__all__ = ["Health", "LatentGan", "examine", "load", "train"]
