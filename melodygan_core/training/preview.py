"""What can be heard of a training while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from melodygan_core.config import FeatureConfig


@dataclass(frozen=True)
class Preview:
    """A few seconds of what a model makes, on the CPU.

    Attributes:
        feature: How its features are made.
        spectrum: (frames, n_bands), what vocoders take; None for sound.
        wav: (samples,), float32; None where a vocoder has to make it.
    """

    feature: FeatureConfig
    spectrum: Tensor | None = None
    wav: Tensor | None = None


@runtime_checkable
class PreviewTask(Protocol):
    """A training that can be listened to."""

    def preview(self) -> Preview:
        """What the model makes now, of what stays the same; draws no number from torch's default generators."""
        ...


@runtime_checkable
class PreviewCallback(Protocol):
    """A MetricsCallback that is given previews, too."""

    def preview(self, step: int, preview: Preview) -> None:
        """Called after each validation, with the step."""
        ...
