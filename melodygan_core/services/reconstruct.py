"""A sound through the autoencoder and the vocoder."""

from __future__ import annotations

import torch

from melodygan_core.pipeline import Models
from melodygan_core.services.sound import Samples, encoded, log_mel_of, sequence_model, vocode


def reconstruct(models: Models, wav: Samples) -> Samples:
    """What autoencoder and vocoder keep of a sound: the ceiling of what is generated with them.

    Args:
        models: Of the temporal family.
        wav: (samples,) at the models' rate.

    Raises:
        InputError: models of another family.
    """
    model = sequence_model(models)
    log_mel = log_mel_of(wav, models.feature)
    with torch.no_grad():
        made = model.decode(encoded(model, log_mel))[0, : len(log_mel)]
    return vocode(models, made, len(wav))
