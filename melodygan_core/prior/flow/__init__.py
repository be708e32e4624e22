"""Flows over latents: `TEMPORAL` over sequences of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from melodygan_core.codec import Codec
from melodygan_core.config import replace
from melodygan_core.latents import LatentTable
from melodygan_core.prior.base import Health, Prior, PriorKind
from melodygan_core.prior.flow.task import FlowTask
from melodygan_core.prior.flow.temporal import TemporalFlow

HEALTHY_RANGE = (0.4, 1.8)
Check = Callable[[Prior, LatentTable, Codec, torch.device], Health]


def check_flow(task: type[FlowTask]) -> Check:
    """Returns how a flow is checked for collapse.

    Args:
        task: The training of its kind.
    """

    def check(prior: Prior, table: LatentTable, codec: Codec, device: torch.device) -> Health:
        assert isinstance(prior, TemporalFlow)
        optimizer = prior.config.optimizer
        # Noise that no checkpoint was selected by.
        config = replace(prior.config, optimizer=replace(optimizer, seed=optimizer.seed + 1))
        own = task(table, codec, config, device)
        decoded = own.decoded(prior.model)
        if not np.isfinite(decoded).all():
            return Health(finite=False, diversity=0.0, allowed=HEALTHY_RANGE)
        return Health(True, own.diversity(decoded), HEALTHY_RANGE)

    return check


TEMPORAL = PriorKind(TemporalFlow, FlowTask, check_flow(FlowTask))

__all__ = ["HEALTHY_RANGE", "TEMPORAL", "FlowTask", "TemporalFlow", "check_flow"]
