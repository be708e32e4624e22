"""Features -> latents -> features: the models and their training."""

from melodygan_core.autoencoder.dense import DenseAutoencoder
from melodygan_core.autoencoder.health import Health, examine
from melodygan_core.autoencoder.train import load, train

__all__ = ["DenseAutoencoder", "Health", "examine", "load", "train"]
