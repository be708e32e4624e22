"""Separation of a mix into vocals and instrumental."""

from melodygan_core.separation.audio_separator import default_model_dir
from melodygan_core.separation.stems import separate

__all__ = ["default_model_dir", "separate"]
