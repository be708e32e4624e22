"""noise -> latents: the models, their losses and their training."""

from melodygan_core.gan.train import LatentGan, load, train

__all__ = ["LatentGan", "load", "train"]
