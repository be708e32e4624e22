"""Features -> latents -> features: the models and their training."""

from melodygan_core.codec.collapse import Health, check_collapse
from melodygan_core.codec.dense.model import DenseAutoencoder
from melodygan_core.codec.temporal.model import TemporalAutoencoder
from melodygan_core.codec.train import Autoencoder, load, name_of, train

__all__ = [
    "Autoencoder",
    "DenseAutoencoder",
    "Health",
    "TemporalAutoencoder",
    "check_collapse",
    "load",
    "name_of",
    "train",
]
