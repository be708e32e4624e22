"""Spectrum -> wav."""

from melodygan_core.vocoder import flow
from melodygan_core.vocoder.batched import BatchedVocoder, Seeds, Vocoder, load_vocoder, neural_vocoder
from melodygan_core.vocoder.flow import FlowVocoder
from melodygan_core.vocoder.griffin_lim import GriffinLim
from melodygan_core.vocoder.neural import NeuralVocoder
from melodygan_core.vocoder.train import NAME, check_start, from_config, load, train

__all__ = [
    "NAME",
    "BatchedVocoder",
    "FlowVocoder",
    "GriffinLim",
    "NeuralVocoder",
    "Seeds",
    "Vocoder",
    "check_start",
    "flow",
    "from_config",
    "load",
    "load_vocoder",
    "neural_vocoder",
    "train",
]
