"""Whether an autoencoder says anything of what it is given: measured on its checkpoint and the test tracks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melodygan_core import metrics
from melodygan_core.codec.covariance import Covariance
from melodygan_core.codec.dense.model import DenseAutoencoder
from melodygan_core.codec.dense.task import vectors
from melodygan_core.codec.train import Autoencoder, load
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.storage.store import Artifact, Store

# A direction is alive when it holds more than this part of the variance that each would hold if all were equal.
ACTIVE_SHARE = 0.01
# Fewest directions that can be alive in a latent that was not thrown away.
MIN_ACTIVE = 2
# A constant output has 0; 0.3 leaves a tenth of the variance.
MIN_SPREAD = 0.3
MAX_SEGMENTS = 2048


@dataclass(frozen=True)
class Health:
    """What an autoencoder makes of test segments.

    Attributes:
        finite: Whether latents and reconstructions are numbers.
        active_dims: Directions in which the latents vary; 0 where they are not finite.
        spread: How far reconstructions lie apart beside how far the segments do; 1 is equal, 0 a constant.
    """

    finite: bool
    active_dims: int
    spread: float

    @property
    def collapsed(self) -> bool:
        """Whether different music comes out as the same."""
        return not (self.active_dims >= MIN_ACTIVE and self.spread >= MIN_SPREAD)


def shares(seen: Covariance) -> NDArray[np.float64]:
    """The share of the variance of latents that each principal direction holds, largest first."""
    variance = torch.linalg.eigvalsh(seen.covariance).clamp_min(0).numpy()[::-1]
    return variance / max(variance.sum(), np.finfo(np.float64).tiny)


def active_dims(share: NDArray[np.float64]) -> int:
    """How many directions of `shares` are alive."""
    return int((share > ACTIVE_SHARE / len(share)).sum())


@torch.no_grad()
def check_collapse(checkpoint: Artifact, dataset: Artifact, store: Store) -> Health:
    """Sends test segments through the checkpoint as it lies in the store.

    Args:
        checkpoint: What `train` returned.
        dataset: With the test tracks.
        store: Of both.

    Raises:
        InputError: the checkpoint is damaged or holds values that are not finite.
    """
    with store.reading(store.at(checkpoint.uri)) as folder:
        model = load(folder)
    real, latents, made = _sent(model, Dataset(store, dataset))
    if not bool(latents.isfinite().all() and made.isfinite().all()):
        return Health(finite=False, active_dims=0, spread=0.0)
    apart = [metrics.mean_distance(v.double().numpy()) for v in (made, real)]
    seen = Covariance()
    seen.add(latents.double())
    return Health(True, active_dims(shares(seen)), apart[0] / apart[1])


def _sent(model: Autoencoder, dataset: Dataset) -> tuple[Tensor, Tensor, Tensor]:
    """Test segments through a model: what went in (n, values), latents (n, latent_dim), what came out."""
    if isinstance(model, DenseAutoencoder):
        real = torch.cat([*vectors(dataset, "test", model.config).evenly_spaced(MAX_SEGMENTS).blocks()])
        latents = torch.cat([model.encode(part) for part in real.split(512)])
        return real, latents, torch.cat([model.decode(part) for part in latents.split(512)])
    frames = model.config.crop_tokens * model.config.token_frames
    crops = torch.from_numpy(
        SpanDataset(dataset, "test", model.config.stems, frames).evenly_spaced(
            MAX_SEGMENTS // model.config.crop_tokens
        )
    )
    latents = torch.cat([model.encode(part) for part in crops.split(64)])
    made = torch.cat([model.decode_tokens(part) for part in latents.split(64)])
    return model.tokens(crops).flatten(0, 1), latents.flatten(0, 1), made.flatten(0, 1)
