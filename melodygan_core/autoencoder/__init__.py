"""Features -> latents -> features: the models and their training."""

from melodygan_core.autoencoder.dense import DenseAutoencoder
from melodygan_core.autoencoder.health import Health, examine
from melodygan_core.autoencoder.temporal import TemporalAutoencoder
from melodygan_core.autoencoder.train import Autoencoder, load, name_of, train

__all__ = [
    "Autoencoder",
    "DenseAutoencoder",
    "Health",
    "TemporalAutoencoder",
    "examine",
    "load",
    "name_of",
    "train",
]
