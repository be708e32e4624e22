"""log-mel -> wav."""

from melodygan_core.vocoder.griffin_lim import GriffinLim
from melodygan_core.vocoder.neural import NeuralVocoder
from melodygan_core.vocoder.train import NAME, load, train

__all__ = ["NAME", "GriffinLim", "NeuralVocoder", "load", "train"]
