"""The training of the flow that follows a plan: plans are cropped with the latents, and partly left open."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from melodygan_core.config import TemporalPlanConfig
from melodygan_core.plan import PARTS, open_parts
from melodygan_core.prior.flow.task import FlowTask
from melodygan_core.prior.plan.model import TemporalPlanFlow


class PlanFlowTask(FlowTask):
    """Trains the velocity network beside plans; what a validation samples follows those of unseen tracks.

    The table of latents must have plans.
    """

    prior_class = TemporalPlanFlow

    def _shown_plan(self, plan: Tensor, rng: np.random.Generator) -> Tensor:
        """Plans (n, tokens, plan.CHANNELS) of which some are left out, and parts of others, in place."""
        assert isinstance(self.config, TemporalPlanConfig)
        return drop_plans(plan, self.config.plan_dropout, self.config.plan_part_dropout, rng)


def drop_plans(plan: Tensor, dropout: float, part_dropout: float, rng: np.random.Generator) -> Tensor:
    """Leaves plans, and parts of plans, open, in place.

    Args:
        plan: (n, tokens, plan.CHANNELS).
        dropout: Share of the plans that are left out.
        part_dropout: Share of the others in which a part is left open, for each part by itself.
        rng: Decides.

    Returns:
        The same tensor.
    """
    count = len(plan)
    plan[torch.from_numpy(rng.random(count) < dropout)] = 0
    for part in PARTS:
        for row in np.flatnonzero(rng.random(count) < part_dropout):
            open_parts(plan[row].numpy(), [part])
    return plan
