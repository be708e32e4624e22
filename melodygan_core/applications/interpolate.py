"""Sounds on the way from one to another."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from melodygan_core.applications.sound import Samples, encoded, log_mel_of, sequence_model, sounding
from melodygan_core.config import require
from melodygan_core.generation import Models

MAX_STEPS = 100


def interpolate(models: Models, first: Samples, second: Samples, steps: int) -> Iterator[Samples]:
    """Sounds on the way from one to another, through the latents; made one by one.

    Args:
        models: Of the temporal family.
        first: (samples,) at the models' rate.
        second: (samples,); the longer one is cut.
        steps: Sounds wanted, both ends (as reconstructed) included.

    Raises:
        InputError: models of another family, or a number of steps that is not allowed.
    """
    require(2 <= steps <= MAX_STEPS, "steps", steps, f"2 to {MAX_STEPS}")
    model = sequence_model(models)
    samples = min(len(first), len(second))
    mels = [log_mel_of(w[:samples], models.feature) for w in (first, second)]
    a, b = (encoded(model, m) for m in mels)

    def one(k: int) -> Samples:
        with torch.no_grad():
            made = model.decode(torch.lerp(a, b, k / (steps - 1)))[0, : len(mels[0])]
        return sounding(models, made, samples)

    return (one(k) for k in range(steps))
