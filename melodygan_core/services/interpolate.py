"""Sounds on the way from one to another."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from melodygan_core.config import require
from melodygan_core.pipeline import Models
from melodygan_core.services.sound import Samples, encoded, log_mel_of, sequence_model, vocode

MAX_STEPS = 100


def interpolate(models: Models, first: Samples, second: Samples, steps: int) -> Iterator[Samples]:
    """Sounds on the way from one to another, through the latents; made one by one.

    Between two sounds a latent is nearer to the mean, and softer; the level goes evenly, in dB, from one's to
    the other's.

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

    @torch.no_grad()
    def between(share: float) -> Tensor:
        return model.decode(torch.lerp(a, b, share))[0, : len(mels[0])]

    level, last_level = (_level(between(share)) for share in (0.0, 1.0))

    def one(k: int) -> Samples:
        share = k / (steps - 1)
        made = between(share)
        gain = torch.lerp(level, last_level, share) - _level(made)
        return vocode(models, made + gain, samples)

    return (one(k) for k in range(steps))


def _level(log_mel: Tensor) -> Tensor:
    """Of (frames, n_mels), natural log of magnitude: half the log of the mean power."""
    return 0.5 * (torch.logsumexp(2 * log_mel.flatten(), 0) - math.log(log_mel.numel()))
