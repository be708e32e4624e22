"""Whether a codec has collapsed: measured on its checkpoint and the test tracks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from melodygan_core import metrics
from melodygan_core.codec.covariance import Covariance
from melodygan_core.codec.crops import EvenCrops
from melodygan_core.codec.train import load
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.storage import Artifact, Store
from melodygan_core.training import allow_tf32, resolve_device

# A direction is active when it holds more than this part of an equal share of the variance.
ACTIVE_SHARE = 0.01
# Fewest active directions of a latent that carries anything.
MIN_ACTIVE = 2
# A constant output has 0; 0.3 leaves a tenth of the variance.
MIN_DIVERSITY = 0.3
MAX_TOKENS = 2048


@dataclass(frozen=True)
class Health:
    """What a codec makes of test segments.

    Attributes:
        finite: Whether latents and reconstructions are finite.
        active_dims: Directions in which the latents vary; 0 where they are not finite.
        diversity: Mean distance between reconstructions over that between the originals; 0 for a constant.
    """

    finite: bool
    active_dims: int
    diversity: float

    @property
    def collapsed(self) -> bool:
        """Whether different music comes out as the same."""
        return not (self.active_dims >= MIN_ACTIVE and self.diversity >= MIN_DIVERSITY)


def shares(seen: Covariance) -> NDArray[np.float64]:
    """The share of the variance of latents that each principal direction holds, largest first."""
    variance = torch.linalg.eigvalsh(seen.covariance.cpu()).clamp_min(0).numpy()[::-1]
    return variance / max(variance.sum(), np.finfo(np.float64).tiny)


def active_dims(share: NDArray[np.float64]) -> int:
    """How many directions of `shares` are active."""
    return int((share > ACTIVE_SHARE / len(share)).sum())


@torch.no_grad()
def check_collapse(checkpoint: Artifact, dataset: Artifact, store: Store, device: str = "auto") -> Health:
    """Sends test segments through a checkpoint of the store.

    Args:
        checkpoint: What `train` returned.
        dataset: With the test tracks.
        store: Of both.
        device: Where it is checked, wherever it was trained.

    Raises:
        InputError: the checkpoint is damaged or holds values that are not finite.
    """
    where = resolve_device(device)
    allow_tf32(where)
    with store.reading(store.at(checkpoint.uri)) as folder:
        codec = load(folder, where)
    spans = SpanDataset(Dataset(store, dataset), "test", codec.stems, codec.crop_frames)
    at_most = max(2, MAX_TOKENS * codec.token_frames // codec.crop_frames)
    real, latents, made = [], [], []
    for features in EvenCrops(spans, codec.columns, at_most).parts(where):
        encoded = codec.encode(features)
        rows = codec.targets(features), encoded, codec.decode_targets(encoded)
        for found, row in zip((real, latents, made), rows, strict=True):
            found.append(row.flatten(0, 1).cpu().double())
    targets, z, targets_hat = (torch.cat(found) for found in (real, latents, made))
    if not bool(z.isfinite().all() and targets_hat.isfinite().all()):
        return Health(finite=False, active_dims=0, diversity=0.0)
    apart = [metrics.mean_distance(v.numpy()) for v in (targets_hat, targets)]
    seen = Covariance()
    seen.add(z)
    return Health(True, active_dims(shares(seen)), apart[0] / apart[1])
