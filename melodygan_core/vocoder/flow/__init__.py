"""A flow that refines the neural vocoder's sound."""

from melodygan_core.vocoder.flow.model import FlowVocoder, WaveformFlow
from melodygan_core.vocoder.flow.train import NAME, is_one, load, train

__all__ = ["NAME", "FlowVocoder", "WaveformFlow", "is_one", "load", "train"]
