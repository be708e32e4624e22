"""Vocoders as a pipeline calls them: tensors on the CPU, batches on a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from melodygan_core.config import VOCODERS, FeatureConfig, GriffinLimConfig, require
from melodygan_core.errors import InputError
from melodygan_core.vocoder import flow
from melodygan_core.vocoder.griffin_lim import GriffinLim
from melodygan_core.vocoder.neural import NeuralVocoder
from melodygan_core.vocoder.train import load

# Spectra that go through a model at once.
BATCH = 64

# One for all examples of a batch, or one for each.
Seeds = int | Sequence[int]
# (spectrum (batch, n_bands, frames), seeds) -> wav (batch, (frames - 1) * hop_length)
Vocoder = Callable[[Tensor, Seeds], Tensor]


@dataclass(frozen=True)
class BatchedVocoder:
    """A vocoder that computes on a device, in batches, of tensors on the CPU.

    Attributes:
        kind: `neural`, `griffin_lim` or `flow`.
        model: The vocoder itself, on the device.
        function: Calls the model, with seeds that it may not need.
        device: Where it computes.
    """

    kind: str
    model: Any
    function: Vocoder
    device: torch.device

    def __call__(self, spectrum: Tensor, seed: Seeds) -> Tensor:
        """Spectrum (batch, n_bands, frames) -> wav (batch, (frames - 1) * hop_length); see Vocoder."""
        starts = range(0, len(spectrum), BATCH)
        seeds = [seed if isinstance(seed, int) else seed[k : k + BATCH] for k in starts]
        parts = zip(spectrum.split(BATCH), seeds, strict=True)
        return torch.cat([self.function(part.to(self.device), of_part).cpu() for part, of_part in parts])


def load_vocoder(
    kind: str,
    feature: FeatureConfig,
    folder: Path | None,
    griffin_lim: GriffinLimConfig | None = None,
    device: torch.device | None = None,
) -> BatchedVocoder:
    """The vocoder of a pipeline.

    Args:
        kind: `neural`, `griffin_lim` or `flow`.
        feature: Of the spectra that it is given.
        folder: Of the vocoder's checkpoint, if there is one. That of a flow has the neural vocoder, too.
        griffin_lim: See GriffinLimConfig.
        device: Where it computes; the CPU by default.

    Raises:
        InputError: an unknown vocoder, or a trained one is asked for and not there, or was trained on other
            features.
    """
    require(kind in VOCODERS, "vocoder", kind, ", ".join(VOCODERS))
    if kind == "griffin_lim":
        inverse = GriffinLim(feature, griffin_lim)
        return BatchedVocoder(kind, inverse, inverse, device or torch.device("cpu"))
    require(folder is not None, "vocoder", kind, "'griffin_lim' where there is no vocoder checkpoint")
    assert folder is not None
    if kind == "neural":
        return neural_vocoder(load(folder, device or "cpu"), feature)
    require(flow.is_one(folder), "vocoder", kind, "'neural' or 'griffin_lim' where no flow is trained")
    model = flow.load(folder, device or "cpu")
    _check_features(model.feature, feature)
    return BatchedVocoder(kind, model, model, model.window.device)


def neural_vocoder(model: NeuralVocoder, feature: FeatureConfig) -> BatchedVocoder:
    """A neural vocoder as a pipeline uses it: in batches, tensors on the CPU.

    Raises:
        InputError: it was trained on other features.
    """
    _check_features(model.feature, feature)
    device = next(model.parameters()).device
    return BatchedVocoder("neural", model, lambda spectrum, seed: model(spectrum), device)


def _check_features(found: FeatureConfig, wanted: FeatureConfig) -> None:
    if found.spectral_id != wanted.spectral_id:
        raise InputError(f"the vocoder's features must be {wanted}, got {found}")
