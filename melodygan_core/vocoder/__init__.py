"""Spectrum -> wav."""

from melodygan_core.vocoder.griffin_lim import GriffinLim
from melodygan_core.vocoder.neural import NeuralVocoder
from melodygan_core.vocoder.train import NAME, from_config, load, train

__all__ = ["NAME", "GriffinLim", "NeuralVocoder", "from_config", "load", "train"]
