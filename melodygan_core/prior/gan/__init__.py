"""GANs over latents: `DENSE` over single latents, `TEMPORAL` over sequences of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from melodygan_core.codec import Codec
from melodygan_core.config import replace
from melodygan_core.latents import LatentTable
from melodygan_core.prior.base import Health, Prior, PriorKind
from melodygan_core.prior.gan.dense import DenseGan
from melodygan_core.prior.gan.dense_setup import DenseGanSetup
from melodygan_core.prior.gan.task import GanTask
from melodygan_core.prior.gan.temporal import TemporalGan
from melodygan_core.prior.gan.temporal_setup import TemporalGanSetup

# Wider than the range that candidates are selected in: other noise gives a slightly different diversity, and
# what was selected at the edge has not collapsed.
HEALTHY_RANGE = (0.4, 1.8)


def _kind(model: Callable[..., Prior], setup: Callable[..., Any]) -> PriorKind:
    def task(table: LatentTable, codec: Codec, config: Any, device: torch.device) -> GanTask:
        return GanTask(setup(table, codec, config, device), config)

    def check(prior: Prior, table: LatentTable, codec: Codec, device: torch.device) -> Health:
        optimizer = prior.config.optimizer
        # Noise that no checkpoint was selected by.
        config = replace(prior.config, optimizer=replace(optimizer, seed=optimizer.seed + 1))
        own = setup(table, codec, config, device)
        decoded = own.decoded(prior.get_submodule("generator"))
        if not np.isfinite(decoded).all():
            return Health(finite=False, diversity=0.0, allowed=HEALTHY_RANGE)
        return Health(True, own.diversity(decoded), HEALTHY_RANGE)

    return PriorKind(model, task, check)


DENSE = _kind(DenseGan, DenseGanSetup)
TEMPORAL = _kind(TemporalGan, TemporalGanSetup)

__all__ = ["DENSE", "HEALTHY_RANGE", "TEMPORAL", "DenseGan", "GanTask", "TemporalGan"]
