"""log-mel -> wav."""

from melodygan_core.vocoder.griffin_lim import GriffinLim

__all__ = ["GriffinLim"]
