"""Whether a generator makes different things: measured on its checkpoint, with noise it was not chosen by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from melodygan_core import codec, latents
from melodygan_core.prior.gan.train import build_setup, load
from melodygan_core.storage.store import Artifact, Store

# Wider than what candidates are chosen by (train.DIVERSITY_RANGE): with other noise the figure is a little
# different, and what was chosen at the edge has not collapsed.
HEALTHY_RANGE = (0.4, 1.8)


@dataclass(frozen=True)
class Health:
    """What a generator makes.

    Attributes:
        finite: Whether all of it is numbers.
        diversity: How far generated segments lie apart beside how far real ones do; 1 is equal, 0 a constant.
    """

    finite: bool
    diversity: float


@torch.no_grad()
def check_collapse(
    gan_checkpoint: Artifact, latent_table: Artifact, checkpoint: Artifact, store: Store
) -> Health:
    """Generates with the checkpoint as it lies in the store.

    Args:
        gan_checkpoint: What `train` returned.
        latent_table: That it was trained on.
        checkpoint: The autoencoder of its latents.
        store: Of all three.

    Raises:
        InputError: a checkpoint is damaged or holds values that are not finite.
    """
    with store.reading(store.at(checkpoint.uri)) as ae, store.reading(store.at(gan_checkpoint.uri)) as own:
        decoder, gan = codec.load(ae), load(own)
    other = replace(gan.config.optimizer, seed=gan.config.optimizer.seed + 1)
    table = latents.load(latent_table, store)
    task = build_setup(table, decoder, replace(gan.config, optimizer=other), torch.device("cpu"))
    made = task.decoded(gan.generator)
    if not np.isfinite(made).all():
        return Health(finite=False, diversity=0.0)
    return Health(True, task.diversity(made))
